"""The ranks that work on one client together: rank 0 runs everything and tells the others what to do.

Every rank runs the same command, `torchrun ... -m fedcmp train RECIPE`, on one machine or on several. Rank 0 is the
process that it would be alone: it prepares, runs the rounds, writes the run's folder. The others read no recipe; they
serve frames (frames.py) that rank 0 sends to all:

    recipe      the run's recipe, as TOML
    features    make a share of a feature store's shards
    open        load frozen parts and pairs; answered by what must be equal on all ranks
    train       train a part: all ranks together, each on its samples of every batch
    each        one job a rank, such as a chunk of the evaluation; answered by every rank's result
    end         nothing more comes
"""

import io
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fedcmp.config import Recipe, dump_recipe, parse_recipe
from fedcmp.data.sharing import build_share
from fedcmp.distributed import Group, local_device, ranks_here
from fedcmp.errors import UserError
from fedcmp.model.locations import fingerprint
from fedcmp.model.vision import VisionEncoder
from fedcmp.preparation.loading import load_encoder
from fedcmp.preparation.sources import (
    HELD_OUT,
    cache_folder,
    evaluation_collection,
    store_options,
    training_collections,
)
from fedcmp.simulation.engine import Engine, Job
from fedcmp.version import __version__
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.naming import Tensors

_COMPARED = 64  # of each frozen tensor's numbers: enough to tell two checkpoints apart
TOGETHER = ("train",)  # what all ranks do as one; any other job is one rank's


class Crew:
    """Rank 0's hold on the others; made by `crew_of`.

    Attributes:
        group: the ranks.
    """

    def __init__(self, group: Group, recipe: Recipe) -> None:
        self.group, self._recipe = group, recipe
        self._engine: Engine | None = None
        self._broken: BaseException | None = None
        # caches and data by absolute paths: another machine may run the command somewhere else
        run = recipe.run.model_copy(update={"cache": cache_folder(recipe).resolve()})
        self.call({"op": "recipe", "recipe": dump_recipe(recipe.model_copy(update={"run": run}))})

    def call(self, job: Job, tensors: Tensors | None = None) -> None:
        """Tell the others what to do."""
        frame = io.BytesIO()
        write_frame(frame, job, tensors or {})
        self.group.tell(frame.getvalue())

    def calls_for_features(self, collection: int) -> Callable[[int], None]:
        """Called with the shard size, it sets the others to work on a collection's feature store."""
        return lambda size: self.call({"op": "features", "collection": collection, "shard_size": size})

    def open(self, prepared: Path, on_step: Callable[[], None]) -> None:
        """Load frozen parts and pairs on every rank.

        Raises:
            UserError: a rank runs other versions, or has another frozen LLM.
        """
        self.call({"op": "open", "prepared": str(prepared.resolve())})
        self._engine = Engine(self._recipe, prepared, on_step=on_step, group=self.group)
        _check_equal(self._engine, self.group)

    def run(self, jobs: Sequence[tuple[Job, Tensors]]) -> list[tuple[dict[str, Any], Tensors]]:
        """Do one job together, or up to one a rank side by side; the results in their order.

        After a failure every call fails alike: the ranks no longer wait at the same place.
        """
        if self._broken is not None:
            raise self._broken
        assert self._engine is not None
        try:
            if jobs[0][0]["op"] in TOGETHER:
                ((job, tensors),) = jobs
                self.call(job, tensors)
                return [self._engine.run(job, tensors)]
            names, tensors = _once([own for _, own in jobs])
            self.call({"op": "each", "jobs": [job for job, _ in jobs], "tensors": names}, tensors)
            own, _ = self._engine.run(*jobs[0])
            return [(result, {}) for result in self.group.gather(own)[: len(jobs)]]
        except BaseException as error:
            self._broken = error
            raise


@contextmanager
def crew_of(group: Group, recipe: Recipe) -> Iterator[Crew | None]:
    """Rank 0's crew for a run, sent home at its end; None where rank 0 is alone.

    Raises:
        UserError: the recipe names one GPU for all ranks.
    """
    if group.size == 1:
        yield None
        return
    if recipe.model.device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"model.device = {recipe.model.device!r}: {group.size} processes train a client together, each on a device "
            "of its own; use 'auto', 'cuda' or 'cpu'"
        )
    crew = Crew(group, recipe)
    yield crew
    crew.call({"op": "end"})


def serve(group: Group) -> None:
    """What the other ranks do: all that rank 0 tells, until it says that nothing more comes.

    Raises:
        UserError, WorkerFailed, WorkerDied: a job failed here, or another rank did.
    """
    rank = _Rank(group)
    while True:
        job, tensors = read_frame(io.BytesIO(group.tell(None)))
        if job["op"] == "end":
            return
        rank.do(job, tensors)


class _Rank:
    """One of the others: its recipe, its encoder while features are made, its engine afterwards."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._recipe = Recipe.model_construct()
        self._encoder: VisionEncoder | None = None
        self._engine: Engine | None = None

    def do(self, job: Job, tensors: Tensors) -> None:
        """Do what a frame says."""
        if job["op"] == "recipe":
            self._recipe = _with_own_device(
                parse_recipe(tomllib.loads(job["recipe"]), "the recipe of rank 0"), self._group
            )
        elif job["op"] == "features":
            self._features(int(job["collection"]), int(job["shard_size"]))
        elif job["op"] == "open":
            self._open(Path(job["prepared"]))
        elif job["op"] == "each":
            self._one_of(job["jobs"], job["tensors"], tensors)
        else:
            assert self._engine is not None
            self._engine.run(job, tensors)

    def _features(self, number: int, shard_size: int) -> None:
        recipe = self._recipe
        if number == HELD_OUT:
            collection = evaluation_collection(recipe, _silent)
            assert collection is not None
        else:
            collection = training_collections(recipe, _silent)[number]
        self._encoder = self._encoder or load_encoder(recipe)
        folder, options = cache_folder(recipe) / "features", store_options(recipe, self._encoder)
        build_share(collection.source, self._encoder, folder, shard_size=shard_size, group=self._group, **options)

    def _open(self, prepared: Path) -> None:
        self._encoder = None
        if not (prepared / "setup.json").exists():
            raise UserError(
                f"{prepared}: rank {self._group.rank} does not see what rank 0 has prepared: set run.folder and "
                "run.cache to folders that all machines share"
            )
        torch.set_num_threads(1)  # as in every worker
        self._engine = Engine(self._recipe, prepared, group=self._group)
        _check_equal(self._engine, self._group)

    def _one_of(self, jobs: list[Job], names: list[dict[str, str]], tensors: Tensors) -> None:
        assert self._engine is not None
        number, result = self._group.rank, None
        if number < len(jobs):
            own = {name: tensors[sent] for name, sent in names[number].items()}
            result, _ = self._engine.run(jobs[number], own)
        self._group.gather(result)


def _once(tensors_of_jobs: Sequence[Tensors]) -> tuple[list[dict[str, str]], Tensors]:
    """Each job's names -> names in one frame, where a tensor that several jobs use stands once."""
    distinct = {id(tensor): tensor for tensors in tensors_of_jobs for tensor in tensors.values()}
    sent = {known: str(number) for number, known in enumerate(distinct)}
    names = [{name: sent[id(tensor)] for name, tensor in tensors.items()} for tensors in tensors_of_jobs]
    return names, {sent[known]: tensor for known, tensor in distinct.items()}


def _check_equal(engine: Engine, group: Group) -> None:
    """All ranks have loaded, and run the same program on the same frozen LLM."""
    starts = {name: tensor.flatten()[:_COMPARED] for name, tensor in engine.vlm.language.model.named_parameters()}
    own = {
        "fedcmp": __version__,
        "torch": torch.__version__.partition("+")[0],
        "model.language": fingerprint(starts)[:12],
    }
    first, *others = group.gather(own)
    for rank, other in enumerate(others, start=1):
        for what, value in other.items():
            if value != first[what]:
                raise UserError(
                    f"{what}: rank 0 has {first[what]}, rank {rank} has {value}: all machines need the same versions "
                    "and the same weights"
                )


def _with_own_device(recipe: Recipe, group: Group) -> Recipe:
    """The recipe with this rank's GPU, where GPUs are used."""
    if recipe.model.device == "cpu" or not torch.cuda.is_available():
        return recipe
    local, gpus = ranks_here(), torch.cuda.device_count()
    if local > gpus:
        raise UserError(
            f"rank {group.rank}: {local} processes on a machine with {gpus} GPUs: start as many as there are GPUs, or "
            "set model.device = 'cpu'"
        )
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"device": str(local_device())})})


def _silent(_what: str, _done: int, _total: int) -> None:
    return None
