"""How each method's settings were chosen: the trials, how many, and what came out."""

import math
from collections.abc import Mapping

from fedcmp.report.methods import CAPTION_LOSS, write_number
from fedcmp.report.study.results import Results
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.study_records import Tuning


def tuning_table(results: Results) -> Table | None:
    """Return one row per tuned method: trials, settings chosen, the loss that they reached, what was tried."""
    if not results.study.tuning:
        return None
    methods, palette = results.study.methods, results.palette
    order = {name: place for place, name in enumerate(methods)}
    rows = []
    for tuning in sorted(results.study.tuning, key=lambda tuning: order.get(tuning.method, len(order))):
        title = methods[tuning.method].title if tuning.method in methods else tuning.method
        loss = best_loss(tuning)
        rows.append(
            Row(
                (
                    name_cell(palette, tuning.method, title),
                    Cell(str(len(tuning.trials)), len(tuning.trials)),
                    Cell(write_settings(tuning.chosen or {}) or "–"),
                    Cell(CAPTION_LOSS.write(loss), loss),
                    Cell(_tried(tuning)),
                    Cell(_where(tuning, results)),
                )
            )
        )
    columns = (
        Column("Method", numeric=False),
        Column("Trials"),
        Column("Chosen", numeric=False),
        Column("Its caption loss", "nats, trial", better="low"),
        Column("Tried", numeric=False),
        Column("On", numeric=False),
    )
    notes = ("Trials are on data and a seed of their own; a trial's loss is not comparable with the tables above.",)
    return Table(columns, tuple(rows), "Settings chosen by tuning", notes)


def best_loss(tuning: Tuning) -> float | None:
    """Return the loss of the trial with the settings chosen (of several, of the largest), None without one."""
    found = [
        (trial.captions or 0, trial.caption_loss)
        for trial in tuning.trials
        if trial.caption_loss is not None and _flat(trial.settings) == _flat(tuning.chosen or {})
    ]
    return max(found, key=lambda trial: trial[0])[1] if found else None


def write_settings(settings: Mapping[str, object]) -> str:
    """Write settings in one line: "learning rate 0.003, mu 0.1"."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in _flat(settings).items())


def _flat(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings by name, those within another by their own name or, where it is taken, by both; no empty ones."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            inner = _flat({str(name): entry for name, entry in value.items()})
            flat.update({f"{key} {name}" if name in settings or name in flat else name: x for name, x in inner.items()})
        elif value is not None:
            flat[str(key)] = f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
    return flat


def _tried(tuning: Tuning) -> str:
    """The values that each setting took, of those that took more than one."""
    trials = [_flat(trial.settings) for trial in tuning.trials]
    taken: dict[str, set[str]] = {}
    for settings in trials:
        for key, value in settings.items():
            taken.setdefault(key, set()).add(value)
    told = [
        f"{key.replace('_', ' ')} {', '.join(sorted(values, key=_number))}"
        for key, values in taken.items()
        if len(values) > 1
    ]
    return "; ".join(told) or "–"


def _number(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def _where(tuning: Tuning, results: Results) -> str:
    scenario = results.study.scenarios.get(tuning.scenario)
    captions = sorted({trial.captions for trial in tuning.trials if trial.captions is not None})
    told = [
        scenario.title if scenario is not None else tuning.scenario,
        f"seed {tuning.seed}" if tuning.seed is not None else "",
        f"{' and '.join(write_number(count, 0) for count in captions)} captions" if captions else "",
    ]
    return ", ".join(text for text in told if text) or "–"
