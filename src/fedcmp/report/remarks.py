"""What ran, what to beware of, and where to look next: the first screen's short texts, all plain."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedcmp.references import reference_of
from fedcmp.report.comparison import BLIND, Comparison
from fedcmp.report.methods import ACCURACY, CAPTION_LOSS, MethodEntry, ordered, reference_line, write_span
from fedcmp.report.rendering import Pointer
from fedcmp.report.sites import sites_pointer
from fedcmp.report.toy import brought_by_sites
from fedcmp.runs.fields import table, text
from fedcmp.runs.reading import Run

_CLEARLY_ABOVE_BLIND = 0.05  # of accuracy
_CLEARLY_HEAVIER = 1.25  # times the weight of the lightest client
_FORMATS = {
    "llava": "LLaVA-format files",
    "parquet": "parquet files",
    "webdataset": "WebDataset tars",
}


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Say what ran, each as (name, value): data, models, sizes, machine, when and for how long."""
    runs = [run for method in comparison.methods for run in method.runs]
    finished = sum(run.finished for run in runs)
    clients = [
        run.num_clients or len({line.client for line in run.client_rounds})
        for run in runs
        if reference_of(run.method) != "centralized"
    ]
    judged = [count for method in comparison.methods if (count := method.held_out_pairs) is not None]
    records = [run.record for run in runs if run.record is not None]
    found = [
        ("Data", _either(_data(run.recipe) for run in runs)),
        ("Models", _either(_models(run.recipe) for run in runs if run.recipe)),
        ("Machine", _either(record.machine for record in records)),
        ("Date", min((record.started for record in records if record.started), default="")[:10]),
        ("Duration", _duration(runs)),
        ("Parameters", write_span(record.parameters for record in records)),
        ("Pairs", write_span([run.num_pairs for run in runs])),
        ("Held-out pairs", write_span(judged)),
        ("Clients", write_span(clients)),
        ("Rounds", write_span([run.rounds or run.round_reached for run in runs])),
        ("Seeds" if len(comparison.seeds) > 1 else "Seed", ", ".join(map(str, comparison.seeds))),
        ("Runs", str(len(runs)) if finished == len(runs) else f"{len(runs)}, {len(runs) - finished} unfinished"),
    ]
    return [(name, value) for name, value in found if value]


def _either(texts: Iterable[str]) -> str:
    return " / ".join(ordered(text for text in texts if text))


def _data(recipe: Mapping[str, Any]) -> str:
    told: list[str] = []
    if brought_by_sites(recipe):
        return "each site's own pairs"
    form = table(recipe.get("data")).get("format")
    world = text(table(recipe.get("data")).get("world"), "embedded")
    if isinstance(form, str):
        told.append(f"{world} world" if form == "world" else _FORMATS.get(form, form))
    kind = table(recipe.get("scenario")).get("kind")
    if isinstance(kind, str) and kind != "given":
        told.append("iid clients" if kind == "iid" else f"split among clients by {kind}")
    return ", ".join(told)


def _models(recipe: Mapping[str, Any]) -> str:
    """The frozen parts and the kind of projector between them."""
    model = table(recipe.get("model"))
    vision, language = (str(model.get(part, "world")) for part in ("vision", "language"))
    names = ["embedded encoder" if vision == "world" else vision, "embedded LLM" if language == "world" else language]
    return f"{names[0]}, {model.get('projector', 'mlp')} projector, {names[1]}"


def _duration(runs: Sequence[Run]) -> str:
    """How long the runs took, those at the same time counted once; "" while one has not ended."""
    spans = sorted(span for run in runs if (span := _from_to(run)) is not None)
    if len(spans) < len(runs):
        return ""
    seconds, reached = 0.0, spans[0][0]
    for start, end in spans:
        seconds += max(0.0, (end - max(start, reached)).total_seconds())
        reached = max(reached, end)
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _from_to(run: Run) -> tuple[datetime, datetime] | None:
    try:
        started = datetime.fromisoformat(run.record.started if run.record else "")
        ended = datetime.fromisoformat(run.ended)
    except ValueError:
        return None
    return (started, ended) if started.tzinfo is not None and ended.tzinfo is not None else None


def warnings(comparison: Comparison) -> list[str]:
    """Say what a reader must know before any figure: unfinished, diverged or unmeasured runs."""
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
    """Say where to look next: the hardest group, question kinds at the blind level, unusual clients, skipped pairs."""
    best = comparison.best or next(iter(comparison.methods), None)
    if best is None:
        return []
    told = [_hardest_group(best), _blind_kinds(comparison, best), _heavy_client(best), _skipped(comparison)]
    told.append(sites_pointer(comparison))
    return [pointer for pointer in told if pointer is not None]


def _hardest_group(best: MethodEntry) -> Pointer | None:
    losses = {name: figure.mean for name, figure in best.part_values("group_losses").items()}
    if len(losses) < 2 or not all(map(math.isfinite, losses.values())):
        return None
    worst, easiest = max(losses, key=lambda name: losses[name]), min(losses, key=lambda name: losses[name])
    text = f"The hardest group for {best.label} is “{worst}”: {losses[worst]:.3f} nats per token; the easiest is "
    return Pointer(f"{text}“{easiest}”: {losses[easiest]:.3f}.", "groups")


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
        kinds = f"questions of the kind{'s' if len(stuck) > 1 else ''} {', '.join(f'“{kind}”' for kind in stuck)}"
        return Pointer(f"{best.label} answers {kinds} no better than the blind LLM (within 5 points).", "questions")
    if not level:
        return None
    most = max(level, key=lambda kind: level[kind])
    gain = ACCURACY.write(level[most])
    return Pointer(
        f"{best.label} beats the blind LLM on every kind of question, most on “{most}” (by {gain} points).", "questions"
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
