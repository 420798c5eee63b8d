"""What the page says in words: is each scenario sharpest in its own metric (the paper's appendix E.3), and more."""

from fedcmp.report.methods import ordered, write_number
from fedcmp.report.rendering import Pointer
from fedcmp.report.scenario.records import METRICS, Scenario, Shown
from fedcmp.report.verdict import Phrase

_DECIMALS = 3


def sharpest_metric(scenario: Scenario) -> str | None:
    """Return the metric by which the scenario's silhouette is highest, None without silhouettes; its own wins a tie."""
    known = {metric: value for metric in METRICS if (value := scenario.silhouette[metric]) is not None}
    return max(known, key=lambda metric: (known[metric], metric == scenario.metric)) if known else None


def sharp_in_own(scenario: Scenario) -> bool | None:
    """Tell whether the scenario is sharpest in its own metric; None if it has none, or no silhouettes."""
    best = sharpest_metric(scenario)
    return None if scenario.metric is None or best is None else best == scenario.metric


def sharpest_scenario(shown: Shown, metric: str) -> Scenario | None:
    """Return the scenario with the highest silhouette by a metric; the one that was cut by it wins a tie."""
    known = [one for one in shown.scenarios if one.silhouette[metric] is not None]
    return max(known, key=lambda one: (one.silhouette[metric], one.metric == metric), default=None)


def answer(shown: Shown, scenario: Scenario) -> str:
    """Return one scenario's answer, with the numbers that it rests on."""
    sharp = sharp_in_own(scenario)
    if scenario.metric is None:
        return "cut by no similarity, so it has no metric of its own."
    if sharp is None:
        return "nothing to compare: a silhouette needs two clients with sampled pairs."
    return f"{'yes' if sharp else 'no'}, {_evidence(shown, scenario, scenario.metric)}"


def _evidence(shown: Shown, scenario: Scenario, metric: str) -> str:
    others = {m: value for m in METRICS if m != metric and (value := scenario.silhouette[m]) is not None}
    rival = max(others, key=lambda m: others[m])
    turn = "then" if sharp_in_own(scenario) else "but"
    said = f"silhouette {_number(scenario.silhouette[metric])} by {metric}, {turn} {_number(others[rival])} by {rival}."
    leader = sharpest_scenario(shown, metric)
    if len(shown.scenarios) == 1 or leader is None:
        return said
    if leader is scenario:
        return f"{said} By {metric}, no other scenario is sharper."
    return f"{said} By {metric}, scenario {leader.name} is sharper ({_number(leader.silhouette[metric])})."


def verdict(shown: Shown) -> list[list[Phrase]]:
    """Return the answer to appendix E.3, then one line per scenario where there are several."""
    judged = {one.name: sharp for one in shown.scenarios if (sharp := sharp_in_own(one)) is not None}
    if len(shown.scenarios) == 1:
        (one,) = shown.scenarios
        if one.metric is None or not judged:
            return [[Phrase(one.name, True), Phrase(f": {answer(shown, one)}")]]
        head = f"{one.name} {'is' if judged[one.name] else 'is not'} sharpest in its own metric"
        return [[Phrase(head, True), Phrase(f": {_evidence(shown, one, one.metric)}")]]
    lines = [[Phrase(one.name, True), Phrase(f": {answer(shown, one)}")] for one in shown.scenarios]
    sharpest = sum(judged.values())
    if not judged:
        head = "No scenario has a metric of its own to be judged by."
    elif sharpest == len(judged) > 1:
        cut = "" if len(judged) == len(shown.scenarios) else " that were cut by a similarity"
        head = f"Each of the {sharpest} scenarios{cut} is sharpest in its own metric."
    elif sharpest == 1:
        head = f"{next(name for name in judged if judged[name])} is sharpest in its own metric"
        rest = len(judged) - 1
        head += f", the other {'one is' if rest == 1 else f'{rest} are'} not." if rest else "."
    else:
        head = f"{sharpest or 'None'} of {len(judged)} scenarios {'are' if sharpest else 'is'} sharpest in "
        head += "their own metrics." if sharpest else "its own metric."
    return [[Phrase(head, True)], *lines]


def facts(shown: Shown) -> list[tuple[str, str]]:
    """Say what was looked at, each as (name, value)."""
    counts = sorted({len(one.clients) for one in shown.scenarios})
    return [
        ("Collection", f"{shown.source}, embedded by {shown.model}"),
        ("Pairs", write_number(shown.pairs, 0)),
        ("Clients", " / ".join(map(str, counts))),
        ("Sample", write_number(shown.sample, 0)),
        ("Seed", str(shown.seed)),
    ]


def warnings(shown: Shown) -> list[str]:
    """Say what a reader must know first."""
    return [f"No images and no words: {shown.missing}"] if shown.missing else []


def pointers(shown: Shown) -> list[Pointer]:
    """Say where to look next."""
    found = []
    spread = {one.name: _ratio(one) for one in shown.scenarios if len(one.clients) > 1}
    if spread:
        name = max(spread, key=lambda key: spread[key])
        found.append(Pointer(f"Largest client over smallest: {write_number(spread[name], 1)} in {name}.", "clients"))
    gaps = {one.name: gap for one in shown.scenarios if (gap := one.gap("image")) is not None}
    if gaps:
        most, least = max(gaps, key=lambda key: gaps[key]), min(gaps, key=lambda key: gaps[key])
        ends = ", ".join(f"{_number(gaps[name])} in {name}" for name in ordered([most, least]))
        text = f"How much more alike images of one client are than images of two: {ends}."
        found.append(Pointer(text, "heterogeneity"))
    if any(layout is not None for layout in shown.maps.values()):
        found.append(Pointer("Every scenario in all four metrics:", "maps"))
    return found


def _ratio(scenario: Scenario) -> float:
    sizes = [client.pairs for client in scenario.clients]
    return max(sizes) / max(min(sizes), 1)


def _number(value: float | None) -> str:
    return write_number(value, _DECIMALS)
