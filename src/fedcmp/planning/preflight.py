"""Before a run starts: what it will need, against what the machine has; what cannot fit is refused with a remedy.

What it needs comes from demand.py, what there is from machine.py.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open

from fedcmp.config import Recipe
from fedcmp.data.accounts import account_of
from fedcmp.data.feature_forms import store_bytes
from fedcmp.data.store import FORMAT
from fedcmp.errors import UserError
from fedcmp.model.float8 import is_native
from fedcmp.model.locations import device_of, resolve
from fedcmp.model.sizes import NoConfigError, UnknownSizeError, VisionSize, language_size, vision_size
from fedcmp.model.text_format import KEY as LANGUAGE_KEY
from fedcmp.model.vision import KEY as VISION_KEY
from fedcmp.planning.demand import ALONE, Demand, Ranks, Sizes, demand_of
from fedcmp.planning.machine import Machine, read_machine
from fedcmp.preparation.sources import Progress, cache_folder, held_out_scenes, training_collections
from fedcmp.scenarios.built import BuiltScenario

# as safetensors' headers name the types of feature_forms.py
_STORED_AS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float8_e4m3": "F8_E4M3", "int8": "I8"}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        lines: for people.
        misfits: what cannot fit, each with a remedy; empty where all fits or nothing is known.
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


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def plan_run(
    recipe: Recipe,
    *,
    ranks: Ranks = ALONE,
    insist: bool = False,
    progress: Progress = _silent,
    most_memory: int | None = None,
    most_disk: int | None = None,
) -> Plan:
    """Estimate what the run will need, and whether this machine has it. Reads configs and the pairs' index only.

    Args:
        recipe: the run.
        ranks: those that a launcher started, if one did; the others' machines are not asked.
        insist: raise if pairs or a hub's model are missing, instead of listing them as unknown.
        progress: called while pairs are opened.
        most_memory: bytes of main memory that the run may take, where that is less than the machine has.
        most_disk: bytes that its features may take, where that is less than is free.

    Raises:
        UserError: a model folder that is not there, or a device that is not; with `insist` pairs or a hub's model.
    """
    device = device_of(recipe.model.device)
    sizes = sizes_of(recipe, insist=insist, progress=progress)
    machine = read_machine(device, cache_folder(recipe), recipe.run.folder)
    if most_memory is not None:
        machine = replace(machine, memory=_least(most_memory, machine.memory))
    if most_disk is not None:
        machine = replace(machine, cache_disk=max(0, _least(most_disk, machine.cache_disk)))
    stored = _stored(recipe, sizes)
    native = recipe.model.frozen_precision == "float8" and is_native(device)

    def demand(changed: Recipe) -> Demand:
        return demand_of(
            changed,
            sizes,
            on_gpu=device.type == "cuda",
            stored=stored,
            ranks=ranks,
            native_float8=native,
        )

    def fits(changed: Recipe) -> bool:
        less = demand(changed)
        return not _too_much(less.memory, machine.memory) and not _too_much(less.gpu, machine.gpu)

    needed = demand(recipe)
    mend = "" if fits(recipe) else memory_mend(recipe, ranks, fits)
    return Plan(_lines(recipe, sizes, needed, machine, ranks), _misfits(recipe, needed, machine, mend))


def memory_mend(recipe: Recipe, ranks: Ranks, fits: Callable[[Recipe], bool]) -> str:
    """Return what to do about memory that is not enough: keys that are enough alone, else those that are together.

    Args:
        recipe: the run.
        ranks: that work together, if a launcher started them.
        fits: whether a changed recipe does.
    """
    alone = [text for text, changed in _changes(recipe, ranks, fits) if fits(changed)]
    if alone:
        return f"set {' or '.join(alone)}"
    texts: list[str] = []
    while changes := [(text, changed) for text, changed in _changes(recipe, ranks, fits) if changed != recipe]:
        text, recipe = changes[0]
        texts.append(text)
        if fits(recipe):
            return f"set {' and '.join(texts)}"
    fewer = "start fewer processes, or take" if ranks.here > 1 else "no key of the recipe is enough: take"
    return f"{fewer} a smaller model.language or model.vision, or a machine with more"


def _changes(recipe: Recipe, ranks: Ranks, fits: Callable[[Recipe], bool]) -> Iterator[tuple[str, Recipe]]:
    """Yield changes that save memory and alter results by rounding only: as a person types them, and the recipe."""

    def changed(section: str, **values: object) -> Recipe:
        own = getattr(recipe, section).model_copy(update=values)
        return recipe.model_copy(update={section: own})

    if recipe.run.workers > 1 and ranks.size == 1:
        yield "run.workers = 1", changed("run", workers=1)
    now = recipe.training.micro_batch or recipe.training.batch_size * recipe.run.cohort
    pieces = [size for size in _halves(now) if size < now]
    if pieces:
        enough = (size for size in pieces if fits(changed("training", micro_batch=size)))
        size = next(enough, pieces[-1])
        yield f"training.micro_batch = {size}", changed("training", micro_batch=size)
    if recipe.run.cohort > 1:
        yield "run.cohort = 1", changed("run", cohort=1)
    if recipe.model.dtype in ("float32", "auto"):
        yield 'model.dtype = "bfloat16"', changed("model", dtype="bfloat16")


def sizes_of(recipe: Recipe, *, insist: bool = False, progress: Progress = _silent) -> Sizes:
    """Return the sizes of models and pairs; folders and files are looked at before the hub is asked.

    Args:
        recipe: the run.
        insist: raise if pairs or a hub's model are missing, instead of listing them as unknown.
        progress: called while pairs are opened.

    Raises:
        UserError: a model folder that is not there; with `insist` pairs or a hub's model.
    """
    unknown: list[str] = []
    model = recipe.model
    resolve(model.vision, "vision", VISION_KEY)
    resolve(model.language, "language", LANGUAGE_KEY)

    def known(work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except UnknownSizeError as error:
            if insist and isinstance(error, NoConfigError):
                raise UserError(str(error)) from error
            unknown.append(str(error))
            return None

    clients = len(recipe.data.clients) or recipe.scenario.clients
    pairs, judged, collections, accounts = recipe.data.num_pairs, 0, list[int](), list[str]()
    if recipe.data.format == "world":
        judged = held_out_scenes(recipe)
        collections = [pairs or 0, judged]
    else:
        try:
            if recipe.scenario.manifest is not None:
                built = BuiltScenario.read(recipe.scenario.manifest)
                clients = len(built.clients)
                pairs = int(built.embeddings.get("source", {}).get("total", 0)) or None
                collections = [pairs] if pairs else []
            if pairs is None or recipe.scenario.manifest is None:
                progress("opening the pairs", 0, 1)
                opened = training_collections(recipe, progress)
                collections = [len(collection.source) for collection in opened]
                if not insist:  # a run that begins says it itself
                    accounts = [account_of(collection.source).line() for collection in opened]
                pairs = sum(collections)
        except UserError as error:
            if insist:
                raise
            if pairs is None:
                unknown.append(f"the number of pairs: {error}")
    vision = known(lambda: vision_size(model.vision, layer=model.vision_layer, strategy=model.vision_strategy))
    language = known(lambda: language_size(model.language))
    return Sizes(vision, language, pairs, judged, clients, unknown, tuple(collections), tuple(accounts))


def _stored(recipe: Recipe, sizes: Sizes) -> int:
    """Return the bytes of features in the cache that look like this run's: of its form, of as many pairs or unfinished.

    Only the encoder's own weights would say which features they are; they are not read for this. Stores that look
    alike are counted once per collection, and bad pairs, which have no features, as if they had.
    """
    vision = sizes.vision
    if vision is None or not recipe.data.feature_store:
        return 0
    form = recipe.data.feature_dtype
    expected = {"format": FORMAT, "patches": vision.patches, "width": vision.width, "dtype": form}
    whole, begun = Counter[int](), 0
    for folder in (cache_folder(recipe) / "features").glob("*"):
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # a build that was interrupted, and will be continued
            begun += sum(_rows(shard, recipe, vision) for shard in folder.glob("shard-*.safetensors"))
            continue
        if expected.items() <= index.items():
            whole[index.get("num_pairs")] += 1
    missing = Counter(sizes.collections) - whole
    still = max(0, sum(missing.elements()) - begun)
    return store_bytes(sum(sizes.collections) - still, vision.patches, vision.width, form)


def _rows(shard: Path, recipe: Recipe, vision: VisionSize) -> int:
    """Return the rows of an unfinished store's shard if they have the run's shape and form; reads its header only."""
    try:
        with safe_open(shard, framework="pt") as file:
            features = file.get_slice("features")
            count, *shape = features.get_shape()
            stored = features.get_dtype()
    except (OSError, SafetensorError):
        return 0
    fits = shape == [vision.patches, vision.width] and stored == _STORED_AS[recipe.data.feature_dtype]
    return int(count) if fits else 0


def _lines(recipe: Recipe, sizes: Sizes, demand: Demand, machine: Machine, ranks: Ranks) -> list[str]:
    lines = []
    if demand.memory is not None and demand.worker is not None:
        workers = ranks.processes(recipe)
        place = "the GPU" if demand.gpu is not None else "memory"
        parts = f"frozen parts {show(demand.frozen)}, a batch {show(demand.batch)}"
        who = "workers" if ranks.size == 1 else "processes on this machine"
        each = f"{workers} {who}, each with {parts}" if workers > 1 else parts
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
    return [*lines, *sizes.accounts, *(f"not estimated: {reason}" for reason in sizes.unknown)]


def _misfits(recipe: Recipe, demand: Demand, machine: Machine, mend: str) -> list[str]:
    out = []
    if _too_much(demand.gpu, machine.gpu):
        out.append(f"GPU memory: needs about {show(demand.gpu)}, {show(machine.gpu)} free: {mend}")
    if _too_much(demand.memory, machine.memory):
        out.append(f"memory: needs up to {show(demand.memory)}, {show(machine.memory)} available: {mend}")
    cache, runs = cache_folder(recipe), recipe.run.folder
    if _too_much(demand.store, machine.cache_disk):
        half = "" if recipe.data.feature_dtype in ("int8", "float8_e4m3") else 'data.feature_dtype = "float8_e4m3", '
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


def _least(most: int, there: int | None) -> int:
    return most if there is None else min(most, there)


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
    """Return bytes for people: "1.3 GB"; "?" where they are not known."""
    if count is None:
        return "?"
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"
