"""What ran, what to beware of, and where to look next: the first screen's short texts, all plain."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from fedcmp.report.comparison import BLIND, Comparison
from fedcmp.report.methods import ACCURACY, CAPTION_LOSS, MethodEntry, ordered, reference_line, write_number
from fedcmp.report.rendering import Pointer

_CLEARLY_ABOVE_BLIND = 0.05  # of accuracy
_CLEARLY_HEAVIER = 1.25  # times the weight of the lightest client
_FORMATS = {
    "world": "embedded world",
    "llava": "LLaVA-format files",
    "parquet": "parquet files",
    "webdataset": "WebDataset tars",
}


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What ran: data, clients, rounds, pairs, seeds, methods, each as (name, value)."""
    runs = [run for method in comparison.methods for run in method.runs]
    pairs = [run.num_pairs for run in runs if run.num_pairs]
    clients = [
        run.num_clients or len({line.client for line in run.client_rounds})
        for run in runs
        if run.method != "centralized"
    ]
    seeds = ", ".join(map(str, comparison.seeds))
    finished = sum(run.finished for run in runs)
    found = [
        ("Data", " / ".join(ordered(text for run in runs if (text := _data(run.recipe))))),
        ("Pairs", _span([float(count) for count in pairs])),
        ("Clients", _span([float(count) for count in clients if count])),
        ("Rounds", _span([float(run.rounds or run.round_reached) for run in runs])),
        ("Seeds" if len(comparison.seeds) > 1 else "Seed", seeds),
        ("Runs", str(len(runs)) if finished == len(runs) else f"{len(runs)}, {len(runs) - finished} unfinished"),
    ]
    return [(name, value) for name, value in found if value]


def _span(values: list[float]) -> str:
    if not values or max(values) == 0:
        return ""
    low, high = write_number(min(values), 0), write_number(max(values), 0)
    return low if low == high else f"{low} to {high}"


def _data(recipe: Mapping[str, Any]) -> str:
    data, scenario = recipe.get("data"), recipe.get("scenario")
    told: list[str] = []
    form = data.get("format") if isinstance(data, Mapping) else None
    if isinstance(form, str):
        told.append(_FORMATS.get(form, form))
    kind = scenario.get("kind") if isinstance(scenario, Mapping) else None
    if isinstance(kind, str) and kind != "given":
        told.append("iid clients" if kind == "iid" else f"split among clients by {kind}")
    return ", ".join(told)


def warnings(comparison: Comparison) -> list[str]:
    """What a reader must know before any figure: unfinished, diverged or unmeasured runs."""
    told = []
    several = sum(len(method.runs) for method in comparison.methods) > 1
    for method in comparison.methods:
        for run in method.runs:
            seed = f", seed {run.seed}" if len(method.runs) > 1 else ""
            if not run.finished:
                of = f" of {run.rounds}" if run.rounds else ""
                caution = " Its figures are not comparable with those of finished runs." if several else ""
                told.append(
                    f"{method.label}{seed} has not finished: round {run.round_reached}{of}. It is still going or was "
                    f"interrupted.{caution}"
                )
        figure = method.value(CAPTION_LOSS)
        if figure is not None and not math.isfinite(figure.mean):
            told.append(f"{method.label} diverged: its caption loss is not a finite number.")
    return told


def pointers(comparison: Comparison) -> list[Pointer]:
    """Where to look next: the hardest group, question kinds at the blind level, unusual clients, skipped pairs."""
    best = comparison.best or next(iter(comparison.methods), None)
    if best is None:
        return []
    told = [_hardest_group(best), _blind_kinds(comparison, best), _heavy_client(best), _skipped(comparison)]
    return [pointer for pointer in told if pointer is not None]


def _hardest_group(best: MethodEntry) -> Pointer | None:
    losses = {name: figure.mean for name, figure in best.part_values("group_losses").items()}
    if len(losses) < 2 or not all(map(math.isfinite, losses.values())):
        return None
    worst, easiest = max(losses, key=lambda name: losses[name]), min(losses, key=lambda name: losses[name])
    text = f"{worst} is the hardest group for {best.label}: {losses[worst]:.3f} nats per token, {easiest} the easiest: "
    return Pointer(f"{text}{losses[easiest]:.3f}.", "groups")


def _blind_kinds(comparison: Comparison, best: MethodEntry) -> Pointer | None:
    line = reference_line(comparison.methods, BLIND)
    found = best.part_values("accuracy_by_kind")
    if line is None or not found:
        return None
    level = {
        kind: figure.mean - line.accuracy_by_kind[kind]
        for kind, figure in found.items()
        if kind in line.accuracy_by_kind
    }
    stuck = [kind for kind, gain in level.items() if gain < _CLEARLY_ABOVE_BLIND]
    if stuck:
        kinds = ", ".join(stuck)
        return Pointer(f"{best.label} answers {kinds} no better than the blind LLM (within 5 points).", "questions")
    if not level:
        return None
    most = max(level, key=lambda kind: level[kind])
    gain = ACCURACY.write(level[most])
    return Pointer(
        f"{best.label} beats the blind LLM on every kind of question, most on {most} (by {gain} points).", "questions"
    )


def _heavy_client(best: MethodEntry) -> Pointer | None:
    shares: dict[str, list[float]] = {}
    for record in best.counted[0].client_rounds:
        if record.weight is not None and math.isfinite(record.weight):
            shares.setdefault(record.name, []).append(record.weight)
    if len(shares) < 2:
        return None
    means = {name: statistics.fmean(values) for name, values in shares.items()}
    most, least = max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name])
    if means[most] < _CLEARLY_HEAVIER * means[least]:
        return None
    text = f"{best.label} gives {most} the most weight ({100 * means[most]:.0f} % on average), {least} the least "
    return Pointer(f"{text}({100 * means[least]:.0f} %).", "weights")


def _skipped(comparison: Comparison) -> Pointer | None:
    runs = [run for method in comparison.methods for run in method.counted if run.holdings]
    if not runs:
        return None
    bad = sum(sum(holding.bad_pairs.values()) for holding in runs[0].holdings)
    return Pointer(f"{bad:.0f} pairs could not be used and were skipped.", "data") if bad else None
