"""One run of a study from its recipe to its record, in this process: prepare (or find prepared), train, judge."""

import logging
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from fedcmp.config import Recipe, dump_recipe
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import loss_of_mix
from fedcmp.evaluation.suites.frozen import FROZEN
from fedcmp.federation.rounds import Events
from fedcmp.preparation.loading import Prepared, initial_trainable, load_prepared, load_text
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.setup_file import SETUP
from fedcmp.preparation.sources import cache_folder
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.record_files import read_records
from fedcmp.runs.records import AnyRecord, ClientData, Evaluation, OpeningRound, ServerRound
from fedcmp.runs.study_records import StudyFigures
from fedcmp.runs.versions import versions
from fedcmp.simulation.evaluate import measure_held_out
from fedcmp.simulation.method_run import method_run
from fedcmp.simulation.pool import Pool

Record = dict[str, Any]
_LOG = logging.getLogger(__name__)


def run_single(
    recipe: Recipe, method: str, *, pairs_hash: str, suites: Sequence[str], keep: Path | None = None
) -> Record:
    """Train and judge one method.

    Args:
        recipe: complete, with `method` as its only method.
        method: its name.
        pairs_hash: runs with the same one share their prepared pairs.
        suites: the suites that are asked at the end.
        keep: where the run's folder is kept, its last projector in it; None: nowhere.

    Returns:
        The fields of a StudyRun (runs/study_records.py) that a run determines: final figures, those of evaluated
        rounds, bytes, seconds, versions.

    Raises:
        UserError: unusable data, a client's update that was refused, or a figure that is not finite.
    """
    torch.set_num_threads(1)
    prepared, data = prepared_pairs(recipe, pairs_hash)
    text = load_text(recipe)
    initial = initial_trainable(recipe, data.vision_width, text.width).tensors()
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.begin(dump_recipe(recipe))
        with Pool(recipe, prepared) as pool:
            run = method_run(method, recipe, data, initial, pool, folder, prepared, Events(), suites=suites)
            run.run(resume=False, references=False)
        records = read_records(folder.metrics)
        if keep is not None:
            _keep(folder.path, keep)
    return _record(recipe, method, records)


def _keep(folder: Path, place: Path) -> None:
    """Copy a run's folder, whole or not at all, in the place of an earlier one."""
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, unfinished)
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)


def judge_blind(recipe: Recipe, *, pairs_hash: str, suites: Sequence[str]) -> Record:
    """Figures of the LLM without the picture: what every suite and caption loss is compared with."""
    torch.set_num_threads(1)
    prepared, data = prepared_pairs(recipe, pairs_hash)
    with Pool(recipe, prepared) as pool:
        judged = measure_held_out(pool, recipe, data, None, blind=True, suites=suites).figures
    asked = {
        name: {
            "score": score["score"],
            "chance": score["chance"],
            "noise": score["noise"],
            "items": score["units"],
            "hash": FROZEN[name, judged["split"]],
        }
        for name, score in judged.get("suites", {}).items()
    }
    return {"caption_loss": judged["caption_loss"], "worst_family_loss": judged["worst_group_loss"], "suites": asked}


def prepared_pairs(recipe: Recipe, pairs_hash: str) -> tuple[Path, Prepared]:
    """Return the pairs of a recipe, prepared once for all methods; what is damaged is prepared again."""
    place = cache_folder(recipe) / "study" / pairs_hash[:24]
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        if (place / SETUP).exists():
            try:
                return place, load_prepared(recipe, place)
            except UserError as error:
                _LOG.warning("%s; it is prepared again", error)
        shutil.rmtree(place, ignore_errors=True)
        return place, prepare(recipe, place, lambda _what, _done, _total: None)


def _record(recipe: Recipe, method: str, records: Sequence[AnyRecord]) -> Record:
    by_round: dict[int, list[Evaluation]] = {}
    for record in records:
        if isinstance(record, Evaluation):
            by_round.setdefault(record.round, []).append(record)
    rounds = [line for line in records if isinstance(line, ServerRound)]
    clients = [record for record in records if isinstance(record, ClientData)]
    sent = [line.bytes_sent or 0 for line in records if isinstance(line, ServerRound | OpeningRound)]
    last = max(by_round)
    return {
        "federated": is_federated(method),
        "captions": recipe.data.num_pairs,
        "held_out": by_round[last][0].captions,
        "split": by_round[last][0].split,
        "clients": recipe.scenario.clients,
        "rounds": recipe.federation.rounds,
        "versions": versions(),
        "bytes_sent": sum(sent),
        "training_seconds": _short(sum(line.seconds or 0.0 for line in rounds)),
        "rounds_evaluated": [
            {"round": number} | _mean_figures(by_round[number], clients, suites=False) for number in sorted(by_round)
        ],
        "final": _mean_figures(by_round[last], clients, suites=True),
    }


def _mean_figures(evaluations: Sequence[Evaluation], clients: Sequence[ClientData], *, suites: bool) -> Record:
    """One global model's figures, or the mean over local-only clients' own."""
    families = {family: _mean([e.group_losses[family] for e in evaluations]) for family in evaluations[0].group_losses}
    worst = max(families, key=lambda family: families[family])
    loss = _mean([_finite(e.caption_loss) for e in evaluations])
    figures: Record = {
        "caption_loss": loss,
        "worst_family": worst,
        "worst_family_loss": families[worst],
        "mean_loss": _mean([loss, families[worst]]),
        "question_accuracy": None,
    } | _worst_client(evaluations, clients)
    if evaluations[0].question_accuracy is not None:
        figures["question_accuracy"] = _mean([_finite(e.question_accuracy) for e in evaluations])
    shuffled = [e.shuffled_loss for e in evaluations if e.shuffled_loss is not None]
    if len(shuffled) == len(evaluations):
        figures["shuffled_loss"] = _mean(shuffled)
    if suites and evaluations[0].suites:
        figures["suites"] = {
            name: _mean([_finite(e.suites[name].score) for e in evaluations]) for name in evaluations[0].suites
        }
    return StudyFigures(**figures).line()


def _worst_client(evaluations: Sequence[Evaluation], clients: Sequence[ClientData]) -> Record:
    """The client on whose mix of families the model does worst; of local-only runs each client's own model counts."""
    losses: dict[str, float] = {}
    for client in clients:
        for judged in evaluations:
            loss = loss_of_mix(judged.group_losses, client.groups)
            if loss is None:  # pairs without groups: what is judged by is then each client's own
                loss = judged.group_losses.get(client.name)
            if judged.client in (None, client.client) and loss is not None:
                losses[client.name] = loss
    if not losses:
        return {}
    worst = max(losses, key=lambda name: losses[name])
    return {"worst_client": worst, "worst_client_loss": _short(losses[worst])}


def _finite(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise UserError("a figure is not finite; lower the learning rate")
    return value


def _mean(values: Sequence[float]) -> float:
    return _short(sum(values) / len(values))


def _short(value: float) -> float:
    """Six digits are more than any figure here is good for, and keep the run files small."""
    return float(f"{value:.6g}")
