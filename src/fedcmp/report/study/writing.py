"""Writing a study's report: page, tables.md, tables.tex, numbers.json and PNGs, each file whole or not at all."""

import json
from pathlib import Path

from fedcmp.report.markdown import render_document
from fedcmp.report.study.benchmarktables import benchmark_tables, cells_tables
from fedcmp.report.study.claims import claims_table
from fedcmp.report.study.distances import distance_table
from fedcmp.report.study.files import PNG_NAMES, study_pngs
from fedcmp.report.study.heat import heat_map
from fedcmp.report.study.latex import PREAMBLE, escape_latex, table_to_latex
from fedcmp.report.study.maps import heterogeneity_table
from fedcmp.report.study.numbers import study_numbers
from fedcmp.report.study.page import render_study_page
from fedcmp.report.study.pairedtests import paired_tests_table
from fedcmp.report.study.reading import load_study
from fedcmp.report.study.remarks import facts, warnings
from fedcmp.report.study.results import Results
from fedcmp.report.study.resulttables import COMMON_NOTES, result_tables
from fedcmp.report.study.saying import verdict
from fedcmp.report.study.trajectories import oscillation_table
from fedcmp.report.study.tuning import tuning_table
from fedcmp.report.tables import Table
from fedcmp.report.writing import write_files


def write_study_report(folder: Path, out: Path | None = None) -> list[Path]:
    """Write the report of a study, finished or not.

    Args:
        folder: a study's folder, which holds study.json.
        out: where to write; by default `folder`/report.

    Returns:
        The files written, index.html first.

    Raises:
        UserError: no study in the folder, a file that cannot be read, or a place that cannot be written.
    """
    folder = Path(folder)
    results = Results.of(load_study(folder))
    out = folder / "report" if out is None else Path(out)
    title = results.study.name
    files = {
        "index.html": render_study_page(results, title=title).encode("utf-8"),
        "tables.md": render_study_markdown(results, title=title).encode("utf-8"),
        "tables.tex": render_study_latex(results).encode("utf-8"),
        "numbers.json": (json.dumps(study_numbers(results), indent=1, ensure_ascii=False) + "\n").encode("utf-8"),
        **study_pngs(results),
    }
    write_files(out, files, formerly=PNG_NAMES)
    return [out / name for name in files]


def named_tables(results: Results) -> list[tuple[str, str, Table]]:
    """Return all tables of the report as (key, heading, table), in the page's order."""
    found: list[tuple[str, str, Table | None]] = [
        ("heat", "", heat_map(results)),
        ("claims", "", claims_table(results)),
    ]
    made = result_tables(results)
    found += [(one.key, one.title, one.table) for one in made if one.kind == "main"]
    found.append(("tests", "", paired_tests_table(results)))
    asked = [*benchmark_tables(results), *cells_tables(results)]
    found += [(one.key, one.title, one.table) for one in asked]
    found.append(("distance", "", distance_table(results)))
    found += [(f"oscillation-{one.scenario.name}", "", oscillation_table(results, one)) for one in results.comparisons]
    found += [(one.key, one.title, one.table) for kind in ("ablation", "further") for one in made if one.kind == kind]
    found += [("heterogeneity", "", heterogeneity_table(results)), ("tuning", "", tuning_table(results))]
    return [(key, title or table.caption, table) for key, title, table in found if table is not None]


def render_study_markdown(results: Results, *, title: str) -> str:
    """Render the verdict and all tables as Markdown.

    Args:
        results: of a study.
        title: the heading, plain text.
    """
    return render_document(
        title=title,
        toy=results.study.toy,
        verdict=verdict(results),
        facts=facts(results),
        warnings=warnings(results),
        notes=COMMON_NOTES,
        tables=[(heading, table) for _, heading, table in named_tables(results)],
    )


def render_study_latex(results: Results) -> str:
    """Render all tables as LaTeX, to be taken in by \\input."""
    toy = f" ({results.study.toy[:1].lower()}{results.study.toy[1:-1]})" if results.study.toy else ""
    tables = [table_to_latex(table, title=heading + toy, label=key) for key, heading, table in named_tables(results)]
    notes = "\n".join(f"% {escape_latex(note)}" for note in COMMON_NOTES)
    return "\n".join([PREAMBLE, notes, "", *tables])
