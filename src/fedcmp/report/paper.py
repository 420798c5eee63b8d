"""The paper's own figures, as far as they are known to us: paper_figures.json, read as it lies.

Tables 1, 2, 7 and 8 are methods x benchmarks, one a scenario; table 3 is the ablation of the parts of Fed-CMP. Whatever
is not in the file is not at hand; nothing is filled in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

ARXIV = "arXiv 2603.26786"


@dataclass(frozen=True)
class PaperRow:
    """A row of a table: its title, our method that stands for it ("" for none), scores by benchmark, its parts."""

    title: str
    method: str
    scores: Mapping[str, float]
    arms: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper; `scenario` is "" where we do not know which scenario it is about."""

    table: str
    scenario: str
    rows: tuple[PaperRow, ...]


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """Return all tables by their number in the paper, those without a known cell included."""
    text = resources.files("fedcmp.report").joinpath("paper_figures.json").read_text(encoding="utf-8")
    return {
        entry["table"]: PaperTable(
            entry["table"],
            entry["scenario"] or "",
            tuple(
                PaperRow(row["title"], row["method"] or "", row["scores"], row.get("arms", {})) for row in entry["rows"]
            ),
        )
        for entry in json.loads(text)["tables"]
    }


def paper_table_of(scenario: str) -> PaperTable | None:
    """Return the table of methods x benchmarks of a scenario, None where none of its cells is known."""
    found = [table for number, table in paper_tables().items() if number != "3" and table.scenario == scenario]
    return found[0] if found and found[0].rows else None
