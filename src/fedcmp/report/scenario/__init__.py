"""The report of scenarios: who holds what, how sharply each divides, images and words of each client.

    from fedcmp.report.scenario import write_scenario_report
    write_scenario_report(facts, thumbnails, Path("scenario/report"))      -> index.html, tables.md, numbers.json, PNGs

The facts are plain JSON (`records` says which), the thumbnails files of small images; nothing else is read.
"""

from fedcmp.report.scenario.writing import report_folder, write_scenario_report

__all__ = ["report_folder", "write_scenario_report"]
