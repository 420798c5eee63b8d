"""The report of a study: the paper's tables and figures with error bars, from the study's run files only.

    from fedcmp.report.study import write_study_report
    write_study_report(Path("runs/study"))             -> index.html, tables.md, tables.tex, numbers.json, PNGs

What is read: `reading` (the folder), runs/study_records.py (the files).
What is said: `statistics` (error bars, tests, ranks), `comparing` (one scenario), `claims` (whether our method wins).
"""

from fedcmp.report.study.reading import Study, load_study
from fedcmp.report.study.results import Results
from fedcmp.report.study.writing import write_study_report

__all__ = ["Results", "Study", "load_study", "write_study_report"]
