"""Writing the report of scenarios: page, tables.md, numbers.json and PNGs, each file whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcmp.report.markdown import render_document
from fedcmp.report.scenario.files import PNG_NAMES, scenario_pngs
from fedcmp.report.scenario.page import render_scenario_page
from fedcmp.report.scenario.records import Shown
from fedcmp.report.scenario.saying import facts as told_facts
from fedcmp.report.scenario.saying import verdict, warnings
from fedcmp.report.scenario.tables import (
    clients_table,
    heterogeneity_table,
    made_table,
    silhouette_table,
    sizes_table,
)
from fedcmp.report.writing import write_files

_TABLES = (sizes_table, silhouette_table, heterogeneity_table, clients_table, made_table)


def report_folder(scenarios: Sequence[Path]) -> Path:
    """Say where a report goes if nobody says: into the scenario; of several, beside the first."""
    first = Path(scenarios[0])
    return (first if len(scenarios) == 1 else first.parent) / "report"


def write_scenario_report(facts: Mapping[str, Any], thumbnails: Mapping[str, bytes], out: Path) -> list[Path]:
    """Write the report of one or several scenarios.

    Args:
        facts: as `fedcmp.scenarios.describing.description.describe_built` returns them.
        thumbnails: small images' files by the names that the facts have.
        out: where to write.

    Returns:
        The files written, index.html first.

    Raises:
        UserError: a place that cannot be written.
    """
    shown, out = Shown.of(facts), Path(out)
    names = [scenario.name for scenario in shown.scenarios]
    title = f"Scenario {names[0]}" if len(names) == 1 else f"Scenarios {', '.join(names)}"
    files = {
        "index.html": render_scenario_page(shown, thumbnails, title=title).encode("utf-8"),
        "tables.md": render_scenario_markdown(shown, title=title).encode("utf-8"),
        "numbers.json": (json.dumps(facts, ensure_ascii=False) + "\n").encode("utf-8"),
        **scenario_pngs(shown),
    }
    write_files(out, files, formerly=PNG_NAMES)
    return [out / name for name in files]


def render_scenario_markdown(shown: Shown, *, title: str) -> str:
    """Render the answer and all tables as Markdown."""
    return render_document(
        title=title,
        toy=shown.toy,
        verdict=verdict(shown),
        facts=told_facts(shown),
        warnings=warnings(shown),
        tables=[(table.caption, table) for table in (make(shown) for make in _TABLES)],
        subject="What was looked at",
    )
