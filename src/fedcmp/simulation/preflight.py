"""Before a run starts: what it will need, against what the machine has; a run that cannot fit is refused with the mend.

The figures come from needs.py, the machine's from machine.py; here they are put together for a recipe.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fedcmp.config import Recipe
from fedcmp.errors import UserError
from fedcmp.methods import NOT_FEDERATED
from fedcmp.model.locations import device_of
from fedcmp.model.sizes import LanguageSize, UnknownSizeError, VisionSize, language_size, vision_size
from fedcmp.scenarios.built import BuiltScenario
from fedcmp.simulation import needs
from fedcmp.simulation.machine import Machine, read_machine
from fedcmp.simulation.sources import cache_folder, training_collections

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sizes:
    """What a recipe's parts come to; None where it cannot be told.

    Attributes:
        vision: the encoder.
        language: the LLM.
        pairs: pairs to train on.
        judged: held-out pairs that are not among them (embedded world).
        clients: K.
        unknown: why something is None.
    """

    vision: VisionSize | None
    language: LanguageSize | None
    pairs: int | None
    judged: int
    clients: int
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Demand:
    """Bytes that a run needs; None where it cannot be told.

    Attributes:
        memory: of the host, at the highest moment.
        worker: of one of the workers.
        frozen: of that, the frozen parts.
        batch: of that, what one batch keeps.
        gpu: of the GPU; None on a CPU too.
        store: features that are still to be written.
        store_whole: all features.
        run: folder of the run, at the most.
        export: one exported checkpoint.
        wire: method -> bytes a round, both ways, all clients that take part.
    """

    memory: int | None = None
    worker: int | None = None
    frozen: int = 0
    batch: int = 0
    gpu: int | None = None
    store: int | None = None
    store_whole: int | None = None
    run: int | None = None
    export: int | None = None
    wire: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run will need, told.

    Attributes:
        lines: for people.
        misfits: what cannot fit, each with its mend; empty where all fits or nothing is known.
    """

    lines: list[str]
    misfits: list[str]

    def check(self) -> None:
        """Refuse what cannot fit.

        Raises:
            UserError: the first misfit.
        """
        if self.misfits:
            raise UserError(f'{self.misfits[0]} (run.preflight = "warn" runs it all the same)')


def plan_run(recipe: Recipe) -> Plan:
    """What the run will need, and whether this machine has it. Reads configs and the pairs' index, loads no model.

    Raises:
        UserError: a model folder that is not there, or a device that is not.
    """
    device = device_of(recipe.model.device)
    sizes = sizes_of(recipe)
    machine = read_machine(device, cache_folder(recipe), recipe.run.folder)
    on_gpu = device.type == "cuda"
    demand = demand_of(recipe, sizes, on_gpu=on_gpu, stored=_stored(recipe, sizes))
    smallest = recipe.model_copy(update={"run": recipe.run.model_copy(update={"workers": 1})})
    batches = [size for size in _halves(recipe.training.batch_size) if size < recipe.training.batch_size]

    def fits(size: int) -> bool:
        training = recipe.training.model_copy(update={"batch_size": size})
        less = demand_of(smallest.model_copy(update={"training": training}), sizes, on_gpu=on_gpu)
        return not _too_much(less.memory, machine.memory) and not _too_much(less.gpu, machine.gpu)

    mend = next((size for size in batches if fits(size)), None)
    return Plan(_lines(recipe, sizes, demand, machine), _misfits(recipe, demand, machine, mend))


def sizes_of(recipe: Recipe) -> Sizes:
    """Sizes of models and pairs."""
    unknown: list[str] = []
    model = recipe.model

    def known(work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except UnknownSizeError as error:
            unknown.append(str(error))
            return None

    vision = known(lambda: vision_size(model.vision, layer=model.vision_layer, strategy=model.vision_strategy))
    language = known(lambda: language_size(model.language))
    clients = len(recipe.data.clients) or recipe.scenario.clients
    pairs, judged = recipe.data.num_pairs, 0
    if recipe.data.format == "world":
        judged = max(recipe.evaluation.captions, 24 * recipe.evaluation.questions_per_kind)
    else:
        try:
            if recipe.scenario.manifest is not None:
                built = BuiltScenario.read(recipe.scenario.manifest)
                clients = len(built.clients)
                pairs = int(built.embeddings.get("source", {}).get("total", 0)) or None
            if pairs is None:
                opened = training_collections(recipe, lambda _what, _done, _total: None)
                pairs = sum(len(collection.source) for collection in opened)
        except UserError as error:
            unknown.append(f"the number of pairs ({error})")
    return Sizes(vision, language, pairs, judged, clients, unknown)


def demand_of(recipe: Recipe, sizes: Sizes, *, on_gpu: bool, stored: int = 0) -> Demand:
    """What a recipe needs.

    Args:
        recipe: the run.
        sizes: of its parts.
        on_gpu: whether the frozen parts are on a GPU.
        stored: bytes of features that are in the cache already.
    """
    vision, language = sizes.vision, sizes.language
    item = needs.ITEM[recipe.model.dtype]
    store_whole = None
    if vision is not None and sizes.pairs is not None and recipe.data.feature_store:
        everything = sizes.pairs + sizes.judged
        dtype = recipe.data.feature_dtype
        store_whole = needs.feature_store_bytes(everything, vision.patches, vision.width, dtype)
    store = None if store_whole is None else max(0, store_whole - stored)
    if vision is None or language is None:
        return Demand(store=store, store_whole=store_whole)
    projector = needs.projector_shapes(recipe.model.projector, vision.width, language.width)
    memory, worker, frozen, batch, gpu = _memory(recipe, vision, language, sizes, on_gpu=on_gpu)
    return Demand(
        memory=memory,
        worker=worker,
        frozen=frozen,
        batch=batch,
        gpu=gpu,
        store=store,
        store_whole=store_whole,
        run=_run_folder(recipe, sizes, projector),
        export=(vision.loaded + language.parameters) * item + needs.all_bytes(projector, recipe.model.dtype),
        wire=_wire(recipe, sizes, projector),
    )


def _memory(
    recipe: Recipe, vision: VisionSize, language: LanguageSize, sizes: Sizes, *, on_gpu: bool
) -> tuple[int, int, int, int, int | None]:
    """Host, one worker, its frozen parts, its batch, the GPU."""
    item = needs.ITEM[recipe.model.dtype]
    in_passing = not recipe.data.feature_store
    pairs = (sizes.pairs or 0) + sizes.judged
    frozen = language.parameters * item + (vision.tower * item if in_passing else 0)
    batch = max(_training_batch(recipe, vision, language), _judged_batch(recipe, vision, language))
    if in_passing:
        batch += needs.encoding_bytes(vision, pictures=needs.ENCODED, item=item)
    projector = needs.projector_shapes(recipe.model.projector, vision.width, language.width)
    rules = [recipe.chosen(method) for method in recipe.run.methods if method not in NOT_FEDERATED]
    canonical = any(rule.objective == "canonical" for rule in rules)
    learners = recipe.run.cohort * needs.learner_bytes(projector, canonical=canonical)
    work = batch + learners
    # loading goes through the host; the text half of a dual encoder goes again
    loading = max(language.parameters, vision.loaded) * item if on_gpu else 0
    held = loading if on_gpu else frozen + work
    server = sum(
        needs.server_bytes(
            projector,
            canonical=rule.aggregator == "fedcmp",
            kept=sizes.clients if rule.objective in needs.KEEPS_A_PROJECTOR else 0,
        )
        for rule in rules
    )
    count = recipe.run.workers
    main = needs.PROCESS + needs.MAIN_PAIR * pairs
    preparing = main + vision.loaded * item
    if not on_gpu:
        preparing += needs.encoding_bytes(vision, pictures=needs.ENCODED, item=item)
    worker = held + needs.WORKER_PAIR * pairs + (needs.WORKER_PROCESS if count > 1 else 0)
    memory = max(preparing, main + server + count * worker)
    gpu = count * (needs.CUDA_PROCESS + frozen + work) if on_gpu else None
    return memory, worker, frozen, batch, gpu


def _training_batch(recipe: Recipe, vision: VisionSize, language: LanguageSize) -> int:
    captions = recipe.data.max_caption_tokens + 1
    tokens = vision.patches + captions + 2  # <bos> and a separator
    item = needs.ITEM[recipe.model.dtype]
    sample = needs.activation_bytes(language, tokens=tokens, captions=captions, item=item)
    sample += needs.projector_activation_bytes(vision, language.width)
    return recipe.training.batch_size * recipe.run.cohort * sample


def _judged_batch(recipe: Recipe, vision: VisionSize, language: LanguageSize) -> int:
    """Without gradients: one block at a time, and the logits."""
    captions = recipe.data.max_caption_tokens + 1
    one_block = LanguageSize(0, 1, language.width, language.queries, language.inner, language.vocabulary)
    item = needs.ITEM[recipe.model.dtype]
    tokens = vision.patches + captions + 2
    sample = needs.activation_bytes(one_block, tokens=tokens, captions=captions, item=item)
    return min(needs.JUDGED, recipe.evaluation.captions) * sample


def _run_folder(recipe: Recipe, sizes: Sizes, projector: dict[str, needs.Shape]) -> int:
    """Three checkpoints a method (two are kept while the next is written), and what is prepared."""
    total = (sizes.pairs or 0) * 4 * (recipe.data.max_caption_tokens + 20)
    for method in recipe.run.methods:
        rule = None if method in NOT_FEDERATED else recipe.chosen(method)
        one = needs.checkpoint_bytes(
            projector,
            learners=sizes.clients if method == "local" else 1,
            canonical=rule is not None and rule.aggregator == "fedcmp",
            kept=sizes.clients if rule is not None and rule.objective in needs.KEEPS_A_PROJECTOR else 0,
            apart=rule is None,
        )
        total += 3 * one
    return total


def _wire(recipe: Recipe, sizes: Sizes, projector: dict[str, needs.Shape]) -> dict[str, int]:
    taking_part = max(1, round(recipe.federation.participation * sizes.clients))
    federated = [method for method in recipe.run.methods if method not in NOT_FEDERATED]
    return {method: needs.wire(recipe.chosen(method), projector).of(taking_part) for method in federated}


def _stored(recipe: Recipe, sizes: Sizes) -> int:
    """Bytes of features in the cache that look like this run's: of its shape and type, of as many pairs or unfinished.

    Which features they are only the encoder's own weights would tell; they are not read for this.
    """
    if sizes.vision is None or sizes.pairs is None or not recipe.data.feature_store:
        return 0
    expected = {"patches": sizes.vision.patches, "width": sizes.vision.width, "dtype": recipe.data.feature_dtype}
    total = 0
    for folder in (cache_folder(recipe) / "features").glob("*"):
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            index = None  # a build that was interrupted, and goes on
        counts = (sizes.pairs, sizes.judged)
        if index is None or (expected.items() <= index.items() and index.get("num_pairs") in counts):
            total += sum(path.stat().st_size for path in folder.glob("shard-*.safetensors"))
    return total


def _lines(recipe: Recipe, sizes: Sizes, demand: Demand, machine: Machine) -> list[str]:
    lines = []
    if demand.memory is not None and demand.worker is not None:
        workers = recipe.run.workers
        place = "the GPU" if demand.gpu is not None else "memory"
        parts = f"frozen parts {show(demand.frozen)}, a batch {show(demand.batch)}"
        each = f"{workers} workers, each with {parts}" if workers > 1 else parts
        lines.append(f"memory: at most {show(demand.memory)}, {show(machine.memory)} available")
        if demand.gpu is not None:
            lines.append(f"GPU memory: about {show(demand.gpu)}, {show(machine.gpu)} free")
        lines[-1] += f" ({each} in {place})" if demand.gpu is None else f" ({each})"
    if demand.store is not None and demand.store_whole is not None and sizes.vision is not None:
        pairs, vision = (sizes.pairs or 0) + sizes.judged, sizes.vision
        there = "" if demand.store == demand.store_whole else f", {show(demand.store)} of it still to be written"
        there = there if demand.store else ", there already"
        what = f"{pairs:,} pairs x {vision.patches} x {vision.width} in {recipe.data.feature_dtype}"
        lines.append(
            f"frozen features: {show(demand.store_whole)} ({what}){there}; {show(machine.cache_disk)} free in "
            f"{cache_folder(recipe)}"
        )
    elif not recipe.data.feature_store:
        lines.append("frozen features: none kept (data.feature_store = false), every worker computes them in passing")
    if demand.run is not None:
        where = recipe.run.folder / recipe.run.name
        export = f"an exported model {show(demand.export)}"
        lines.append(f"{where}: at most {show(demand.run)}, {show(machine.run_disk)} free; {export}")
    if demand.wire:
        told = ", ".join(f"{method} {show(count)}" for method, count in demand.wire.items())
        lines.append(f"sent in a round, all clients, both ways: {told}")
    if sizes.unknown:
        lines.append("not sized: " + "; ".join(sizes.unknown))
    return lines


def _misfits(recipe: Recipe, demand: Demand, machine: Machine, batch_that_fits: int | None) -> list[str]:
    fewer = "run.workers = 1" if recipe.run.workers > 1 else ""
    smaller = f"training.batch_size = {batch_that_fits}" if batch_that_fits else ""
    narrower = 'model.dtype = "bfloat16"' if recipe.model.dtype == "float32" else ""
    mends = [mend for mend in (fewer, smaller, narrower) if mend] or ["a smaller model.language or model.vision"]
    mend = " or ".join(mends)
    out = []
    if _too_much(demand.gpu, machine.gpu):
        out.append(f"GPU memory: needs about {show(demand.gpu)}, {show(machine.gpu)} free: set {mend}")
    if _too_much(demand.memory, machine.memory):
        out.append(f"memory: needs up to {show(demand.memory)}, {show(machine.memory)} available: set {mend}")
    cache, runs = cache_folder(recipe), recipe.run.folder
    if _too_much(demand.store, machine.cache_disk):
        half = 'data.feature_dtype = "float16", ' if recipe.data.feature_dtype == "float32" else ""
        out.append(
            f"{cache}: frozen features need {show(demand.store)}, {show(machine.cache_disk)} free: set {half}"
            "run.cache to a folder on a larger disk, or data.feature_store = false"
        )
    both = None if demand.run is None else demand.run + (demand.store or 0 if _same_disk(cache, runs) else 0)
    if not out and _too_much(both, machine.run_disk):
        out.append(
            f"{runs}: the run needs {show(both)}, {show(machine.run_disk)} free: set run.folder to one on a larger disk"
        )
    return out


def _too_much(needed: int | None, there: int | None) -> bool:
    return needed is not None and there is not None and needed > there


def _same_disk(first: Path, second: Path) -> bool:
    def disk(folder: Path) -> int:
        place = folder.expanduser().absolute()
        while not place.exists():
            place = place.parent
        return place.stat().st_dev

    return disk(first) == disk(second)


def _halves(size: int) -> list[int]:
    out = [size]
    while out[-1] > 1:
        out.append(out[-1] // 2)
    return out


def show(count: int | None) -> str:
    """Bytes for people: "1.3 GB"; "?" where they are not known."""
    if count is None:
        return "?"
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"
