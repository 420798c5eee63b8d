"""Studies on disk with chosen losses, for the pages that docs/ writes from packed ones."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedcmp.report.study import Results, load_study
from tests.report.study import fakes

SEEDS = (1, 2, 3)
NOISE = dict(zip(SEEDS, (0.002, -0.001, -0.001), strict=True))


def study_of(
    folder: Path,
    methods: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, Mapping[str, float]],
    *,
    sent: Mapping[str, int] = MappingProxyType({}),
) -> Results:
    """Write a study and read it.

    Args:
        folder: a new one.
        methods: name -> its entry in study.json.
        losses: scenario -> method -> mean caption loss; the worst family's is .25 higher.
        sent: method -> bytes of a run; 3,000,000 where nothing is said.
    """
    scenarios = {name: {"title": name.capitalize(), "seeds": list(SEEDS)} for name in losses}
    fakes.write_json(
        folder / "study.json",
        {"format": 1, "name": "study", "scenarios": scenarios, "methods": dict(methods), "groups": {}},
    )
    for scenario, by_method in losses.items():
        for method, loss in by_method.items():
            for seed in SEEDS:
                content = fakes.run_content(method, scenario, seed, final=loss + NOISE[seed])
                content["federated"] = methods[method].get("federated", True)
                fakes.add_run(folder, content | {"bytes_sent": sent.get(method, 3_000_000)})
    return Results.of(load_study(folder))
