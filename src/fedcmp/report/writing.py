"""Writing a report: index.html, tables.md and the PNGs, each file whole or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.report.benchmarks import benchmarks_table
from fedcmp.report.comparison import Comparison
from fedcmp.report.details import differences_table, groups_table, holdings_table, kinds_table, pairs_table
from fedcmp.report.files import PNG_NAMES, png_files
from fedcmp.report.markdown import render_document
from fedcmp.report.page import render_page
from fedcmp.report.remarks import facts, warnings
from fedcmp.report.sites import sites_table
from fedcmp.report.summary import comparison_table
from fedcmp.report.verdict import verdict
from fedcmp.runs.fields import text
from fedcmp.runs.reading import Run, load_runs


def write_report(folder: Path, out: Path | None = None, *, refresh: int = 0) -> Path:
    """Write the report of a run, or of all runs in a comparison's folder.

    Args:
        folder: a folder that holds metrics.jsonl, or whose sub-folders do.
        out: where to write; by default `folder`/report.
        refresh: seconds after which the page loads itself anew, while a run works; 0: never.

    Returns:
        The path of index.html; tables.md and the PNGs are next to it.

    Raises:
        UserError: no run in the folder, a file that cannot be read, or a place that cannot be written.
    """
    folder = Path(folder)
    runs = load_runs(folder)
    out = folder / "report" if out is None else Path(out)
    comparison = Comparison.of(runs)
    title = runs[0].name if len(runs) == 1 else text(folder.resolve().name)
    files = {
        "tables.md": render_markdown(runs, title=title).encode("utf-8"),
        **png_files(comparison),
        "index.html": render_page(comparison, title=title, refresh=refresh).encode("utf-8"),
    }
    write_files(out, files, formerly=PNG_NAMES)
    return out / "index.html"


def render_markdown(runs: Sequence[Run], *, title: str = "Report") -> str:
    """Render the report's tables and its verdict as Markdown.

    Args:
        runs: as `load_runs` returns them.
        title: the heading, plain text.
    """
    comparison = Comparison.of(runs)
    makers = (
        *(sites_table, benchmarks_table, kinds_table, groups_table),
        *(holdings_table, pairs_table, differences_table),
    )
    made = (make(comparison) for make in makers)
    further = [(table.caption, table) for table in made if table is not None]
    return render_document(
        title=title,
        toy=comparison.toy,
        verdict=[verdict(comparison)],
        facts=facts(comparison),
        warnings=warnings(comparison),
        tables=[("Methods", comparison_table(comparison)), *further],
    )


def write_files(out: Path, files: Mapping[str, bytes], *, formerly: Iterable[str] = ()) -> None:
    """Write a report's files, each whole, and take away those that an earlier report had and this one has not.

    Args:
        out: the report's folder; made if it is not there.
        files: name -> content.
        formerly: names of which those that `files` lacks are removed.

    Raises:
        UserError: a place that cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written ({error.strerror}); give another --out") from error
    for name, content in files.items():
        write_whole(out / name, content)
    for name in formerly:
        if name not in files:
            (out / name).unlink(missing_ok=True)
