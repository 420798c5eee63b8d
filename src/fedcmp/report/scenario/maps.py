"""Maps of the sampled pairs, coloured by client: the same layout for every scenario, in each of the four metrics."""

from collections.abc import Sequence

from fedcmp.report.charts.clouds import Cloud, Place
from fedcmp.report.methods import write_number
from fedcmp.report.panels import Panel
from fedcmp.report.scenario.records import METRICS, NOBODY, Scenario, Shown


def cloud(scenario: Scenario, layout: Sequence[Place], metric: str) -> Cloud:
    """Describe one map."""
    names = {number: f"{number}: {client.name}" for number, client in enumerate(scenario.clients)}
    return Cloud(
        f"Map by {metric} similarity of who holds what in {scenario.name}",
        tuple((x, y, owner) for (x, y), owner in zip(layout, scenario.owners, strict=True)),
        {**names, NOBODY: "left out"},
    )


def map_panels(shown: Shown, scenario: Scenario) -> list[Panel]:
    """Return one scenario's maps, one per metric; its own is named."""
    place = shown.scenarios.index(scenario)
    return [
        Panel(f"map{place}-{metric}", f"by {metric}", _subtitle(scenario, metric), cloud(scenario, layout, metric))
        for metric in METRICS
        if (layout := shown.maps[metric]) is not None
    ]


def own_panels(shown: Shown) -> list[Panel]:
    """Return each scenario in its own metric; joint for one that was cut by none."""
    return [
        Panel(f"own{place}", scenario.name, f"by {metric}", cloud(scenario, layout, metric))
        for place, scenario in enumerate(shown.scenarios)
        for metric in [scenario.metric or "joint"]
        if (layout := shown.maps[metric]) is not None
    ]


def _subtitle(scenario: Scenario, metric: str) -> str:
    value = scenario.silhouette[metric]
    known = "" if value is None else f"silhouette {write_number(value, 3)}"
    return " · ".join(part for part in (known, "its own" if metric == scenario.metric else "") if part)
