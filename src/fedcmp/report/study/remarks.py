"""What ran, what to beware of, and where to look next in a study: the first screen's short texts, all plain."""

import json
from collections import Counter
from collections.abc import Sequence

from fedcmp.errors import counted
from fedcmp.report.methods import CAPTION_LOSS, ordered, write_number, write_span
from fedcmp.report.rendering import Pointer
from fedcmp.report.study.comparing import Comparison
from fedcmp.report.study.metrics import SUITES
from fedcmp.report.study.results import Results
from fedcmp.runs.study_records import StudyRun

_LONGEST = 200  # characters of a failed run's message


def facts(results: Results) -> list[tuple[str, str]]:
    """Say what ran: scenarios, methods, clients, rounds, captions, seeds, runs, each as (name, value)."""
    runs = results.study.runs
    scenarios = [one.scenario.title for one in results.comparisons]
    found = [
        ("Scenarios", "; ".join(scenarios)),
        ("Methods", str(len(results.methods)) if results.methods else ""),
        ("Federated", _federated(results)),
        ("Tuned on", "; ".join(ordered(_scenario(results, tuning.scenario) for tuning in results.study.tuning))),
        ("Clients", write_span([run.clients for run in runs if run.federated])),
        ("Rounds", write_span([run.rounds for run in runs])),
        ("Captions", write_span(run.captions for run in runs)),
        ("Held-out pairs", write_span(run.held_out for run in runs)),
        ("Seeds", write_span([len(entry.runs) for one in results.comparisons for entry in one.entries])),
        ("Runs", write_number(len(runs), 0)),
        ("Training", _hours(runs)),
    ]
    return [(name, value) for name, value in found if value]


def _federated(results: Results) -> str:
    """How many federated methods ran in how many scenarios: "19 in 4 scenarios, 7 in 4"."""
    counts = Counter(len(one.entries) for one in results.comparisons if one.entries)
    (first, scenarios), *others = counts.most_common() or [(0, 0)]
    told = [f"{first} in {counted(scenarios, 'scenario')}", *(f"{methods} in {number}" for methods, number in others)]
    return ", ".join(told) if first else ""


def _scenario(results: Results, name: str) -> str:
    known = results.study.scenarios.get(name)
    return known.title if known is not None else name


def _hours(runs: Sequence[StudyRun]) -> str:
    seconds = sum(run.seconds for run in runs if run.seconds is not None)
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min" if seconds else ""


def warnings(results: Results) -> list[str]:
    """Say what a reader must know before any figure: missing runs, single seeds, settings that differ within a cell."""
    return [*_failed(results), *_missing(results), *_single(results), *_mixed(results)]


def _failed(results: Results) -> list[str]:
    failed = [run for run in results.study.runs if run.failed]
    if not failed:
        return []
    first = failed[0]
    titles = ordered(results.study.methods[run.method].title for run in failed)
    reason = first.failed if len(first.failed) <= _LONGEST else first.failed[: _LONGEST - 1] + "…"
    runs = "1 run has" if len(failed) == 1 else f"{len(failed)} runs have"
    return [f"{runs} failed and counts as diverged: {', '.join(titles)}. The first says: {reason}"]


def _missing(results: Results) -> list[str]:
    fewer = [
        f"{entry.method.title} {len(entry.runs)} of {len(one.scenario.seeds)} seeds ({one.scenario.title})"
        for one in results.comparisons
        for entry in (*one.entries, *one.references)
        if len(entry.runs) < len(one.scenario.seeds)
    ]
    if not fewer:
        return []
    more = f" and {len(fewer) - 4} more" if len(fewer) > 4 else ""
    return [f"Not every seed has run: {', '.join(fewer[:4])}{more}. The tables say how many seeds each row has."]


def _single(results: Results) -> list[str]:
    alone = [
        one.scenario.title for one in results.comparisons if one.entries and max(len(e.runs) for e in one.entries) == 1
    ]
    return [f"One seed only, so no error bars and no conclusion: {', '.join(alone)}."] if alone else []


def _mixed(results: Results) -> list[str]:
    told = []
    for one in results.comparisons:
        for entry in (*one.entries, *one.references):
            settings = {json.dumps(run.settings, sort_keys=True, default=str) for run in entry.runs}
            if len(settings) > 1:
                where = f"at different seeds ({one.scenario.title})"
                told.append(f"{entry.method.title} ran with different settings {where}.")
        federated = [run for entry in one.entries for run in entry.runs]
        for name, values in (
            ("captions", {run.captions for run in federated}),
            ("rounds", {run.rounds for run in federated}),
            ("clients", {run.clients for run in federated}),
        ):
            known = sorted(value for value in values if value is not None)
            if len(known) > 1:
                listed = ", ".join(map(str, known))
                told.append(f"{one.scenario.title}: not all methods had the same number of {name} ({listed}).")
    return told


def pointers(results: Results) -> list[Pointer]:
    """Say where to look next."""
    told: list[Pointer] = []
    headline = results.headline
    if headline is None:
        return told
    dull = ordered(
        suite for one in results.comparisons for suite, judged in one.judged.items() if not judged.informative
    )
    if dull:
        names = ", ".join(suite.title for suite in SUITES if suite.key in dull)
        text = f"Not informative in some scenario, and left out of the mean ranks there: {names}."
        told.append(Pointer(text, "tables"))
    told += _family(headline)
    return told


def _family(headline: Comparison) -> list[Pointer]:
    if headline.winner is None:
        return []
    named = ordered(f"“{run.worst_family}”" for run in headline.winner.runs if run.worst_family)
    if not named:
        return []
    estimate = headline.winner.estimate("worst_family_loss")
    loss = f" ({CAPTION_LOSS.write(estimate.mean)} nats per token)" if estimate is not None else ""
    title = headline.winner.method.title
    text = f"{headline.scenario.title}: the hardest family for {title} is {', '.join(named)}{loss}."
    return [Pointer(text, "trajectories")]
