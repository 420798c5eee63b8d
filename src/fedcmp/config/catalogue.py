"""What a recipe may name, read without loading torch: server rules, local objectives, steps, kinds of projectors.

catalogue.json says what the registries hold. `make surfaces` writes it from them, and a test holds it to them. Where
the registries are loaded already they are asked themselves, so rules that a program registers are known as well.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module, resources
from typing import Any

_FILE = "catalogue.json"


@dataclass(frozen=True)
class Entry:
    """One rule, objective or step.

    Attributes:
        summary: one line for people who choose.
        paper: where it comes from.
        options: name of each option -> its default.
    """

    summary: str
    paper: str
    options: Mapping[str, object]


def aggregators() -> dict[str, Entry]:
    """Return the server rules by name, sorted."""
    if "fedcmp.aggregation" in sys.modules:
        from fedcmp import aggregation

        return {name: _entry(aggregation.describe(name)) for name in aggregation.available()}
    return _listed("aggregators")


def objectives() -> dict[str, Entry]:
    """Return the local objectives by name, sorted."""
    if "fedcmp.client.objectives" in sys.modules:
        from fedcmp.client.objectives import available_objectives, describe_objective

        return {name: _entry(describe_objective(name)) for name in available_objectives()}
    return _listed("objectives")


def steps() -> dict[str, Entry]:
    """Return the clients' steps by name, sorted."""
    if "fedcmp.client.steps" in sys.modules:
        from fedcmp.client.steps import available_steps, describe_step

        return {name: _entry(describe_step(name)) for name in available_steps()}
    return _listed("steps")


def projectors() -> list[str]:
    """Return the kinds of what is trained."""
    if "fedcmp.model.projector" in sys.modules:
        from fedcmp.model.trainable import trainable_kinds

        return trainable_kinds()
    return list(_content()["projectors"])


def as_registered() -> str:
    """Return what catalogue.json must hold; loads torch."""
    for registry in ("fedcmp.aggregation", "fedcmp.client.objectives", "fedcmp.client.steps"):
        import_module(registry)
    content = {
        "aggregators": {name: asdict(entry) for name, entry in aggregators().items()},
        "objectives": {name: asdict(entry) for name, entry in objectives().items()},
        "steps": {name: asdict(entry) for name, entry in steps().items()},
        "projectors": ["mlp", "linear"],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _listed(part: str) -> dict[str, Entry]:
    return {name: Entry(row["summary"], row["paper"], row["options"]) for name, row in _content()[part].items()}


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files("fedcmp.config") / _FILE).read_text(encoding="utf-8"))
    return content


def _entry(row: Any) -> Entry:
    return Entry(row.summary, row.paper, dict(row.options()))
