"""Write results/paper.md: the paper's own cells next to ours, and its claims one by one, judged by the published study.

    python docs/write_paper.py            (make study)

The paper's cells are data of the package (src/fedcmp/report/paper_tables.json); ours are of results/study.jsonl. No 7B
model was run here, so every cell of recipes/paper.toml is empty: the page shows them so.
"""

from pathlib import Path

from fedcmp.report.markdown import render_tables
from fedcmp.report.papertables import further_tables
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.benchmarktables import cells_tables
from fedcmp.report.study.paperclaims import claims_of_paper_table
from fedcmp.study.packing import unpacked

RESULTS = Path(__file__).resolve().parents[1] / "results"
BEGINNING = """\
# The paper's cells and claims

Written by `python docs/write_paper.py` from the paper's tables and results/study.jsonl.
"""


def page(published: Path) -> str:
    """Return the whole page.

    Args:
        published: a packed study.
    """
    with unpacked(published) as folder:
        claims = claims_of_paper_table(Results.of(load_study(folder)))
    tables = [claims, *(one.table for one in cells_tables(None)), *further_tables()]
    return render_tables(BEGINNING, tables)


if __name__ == "__main__":
    (RESULTS / "paper.md").write_text(page(RESULTS / "study.jsonl"), encoding="utf-8")
