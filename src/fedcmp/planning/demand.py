"""What a recipe needs in bytes: memory, GPU memory, features, the run's folder, the wire.

The sums are those of needs.py, put together for a recipe; preflight.py holds them against the machine.
"""

from dataclasses import dataclass, field

import torch

from fedcmp.aggregation import Aggregator
from fedcmp.aggregation.labels import BASIS, CONTROL, GRAM, STRETCH
from fedcmp.config import Recipe
from fedcmp.config.methods import Chosen
from fedcmp.data.feature_forms import store_bytes
from fedcmp.model.sizes import LanguageSize, VisionSize
from fedcmp.model.trainable import trainable_shapes
from fedcmp.planning import needs
from fedcmp.preparation.sources import picture_threads
from fedcmp.references import is_federated, reference_of
from fedcmp.wire.payload import forms, payload_bytes

_OF_RULES = frozenset({BASIS, STRETCH, CONTROL})  # counted with the rules that keep them


@dataclass(frozen=True)
class Sizes:
    """Sizes of a recipe's parts; None where one cannot be estimated.

    Attributes:
        vision: the encoder.
        language: the LLM.
        pairs: pairs to train on.
        judged: held-out pairs that are not among them (embedded world).
        clients: K.
        unknown: why something is None.
        collections: pairs of each feature store, the held-out one's among them.
        accounts: where the pairs of each collection go, in a line.
    """

    vision: VisionSize | None
    language: LanguageSize | None
    pairs: int | None
    judged: int
    clients: int
    unknown: list[str] = field(default_factory=list)
    collections: tuple[int, ...] = ()
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranks:
    """The processes that a launcher started for the run; one alone without it.

    Attributes:
        size: how many there are, on all machines; they share every batch, and run.workers does not count.
        here: how many of them are on this machine.
    """

    size: int = 1
    here: int = 1

    def processes(self, recipe: Recipe) -> int:
        """Return the number of processes with a model on this machine."""
        return self.here if self.size > 1 else recipe.run.workers


ALONE = Ranks()


@dataclass(frozen=True)
class Demand:
    """Bytes that a run needs; None where they cannot be estimated.

    Attributes:
        memory: of the host, at the highest moment.
        worker: of one of the workers, or of one rank.
        frozen: of that, the frozen parts.
        batch: of that, what one batch keeps.
        gpu: of the GPU, of one of them where each rank has its own; None on a CPU too.
        store: features that are still to be written.
        store_whole: all features.
        run: folder of the run, at the most.
        export: one exported checkpoint.
        wire: method -> bytes per round, both ways, all clients that take part.
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


def demand_of(
    recipe: Recipe,
    sizes: Sizes,
    *,
    on_gpu: bool,
    stored: int = 0,
    ranks: Ranks = ALONE,
    native_float8: bool = False,
) -> Demand:
    """Return what a recipe needs.

    Args:
        recipe: the run.
        sizes: of its parts.
        on_gpu: whether the frozen parts are on a GPU.
        stored: bytes of features that are in the cache already.
        ranks: that work together, if a launcher started them.
        native_float8: whether the device multiplies FP8 matrices itself (model/float8.py).
    """
    vision, language = sizes.vision, sizes.language
    item = needs.ITEM[recipe.model.dtype]
    store_whole = None
    if vision is not None and sizes.pairs is not None and recipe.data.feature_store:
        everything = sizes.pairs + sizes.judged
        dtype = recipe.data.feature_dtype
        store_whole = store_bytes(everything, vision.patches, vision.width, dtype)
    store = None if store_whole is None else max(0, store_whole - stored)
    if vision is None or language is None:
        return Demand(store=store, store_whole=store_whole)
    projector = trainable_shapes(recipe.model.projector, vision.width, language.width)
    weights = needs.frozen_bytes(language, item, recipe.model.frozen_precision, native_float8=native_float8)
    memory, worker, frozen, batch, gpu = _memory(recipe, vision, language, sizes, weights, ranks, on_gpu=on_gpu)
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
    recipe: Recipe,
    vision: VisionSize,
    language: LanguageSize,
    sizes: Sizes,
    weights: int,
    ranks: Ranks,
    *,
    on_gpu: bool,
) -> tuple[int, int, int, int, int | None]:
    """Return the bytes of host, one worker, its frozen parts, its batch, the GPU; `weights` are the LLM's."""
    item = needs.ITEM[recipe.model.dtype]
    in_passing = not recipe.data.feature_store
    pairs = (sizes.pairs or 0) + sizes.judged
    frozen = weights + (vision.tower * item if in_passing else 0)
    batch = max(_training_batch(recipe, vision, language, ranks.size), _judged_batch(recipe, vision, language))
    threads = picture_threads(torch.device("cuda" if on_gpu else "cpu"))
    scaled = 0 if recipe.data.format == "world" else needs.scaled_images_bytes(vision.side, threads=threads)
    if in_passing:
        batch += needs.encoding_bytes(vision, images=needs.ENCODED, item=item)
    projector = trainable_shapes(recipe.model.projector, vision.width, language.width)
    federated = [method for method in recipe.run.methods if is_federated(method)]
    rules = [recipe.chosen(method).create_aggregator() for method in federated]
    steps = {recipe.chosen(method).step for method in recipe.run.methods}
    canonical = "canonical" in steps or any(GRAM in rule.extras for rule in rules)
    learners = recipe.run.cohort * needs.learner_bytes(projector, canonical=canonical)
    learners += recipe.run.cohort * max(needs.step_bytes(step, projector) for step in steps)
    work = batch + learners
    # weights are loaded through the host's memory; a dual encoder's text half is dropped again
    loading = max(language.parameters, vision.loaded) * item if on_gpu else 0
    held = (loading if on_gpu else frozen + work) + (scaled if in_passing else 0)
    server = 0
    for method, rule in zip(federated, rules, strict=True):
        sums_grams = GRAM in rule.extras or recipe.chosen(method).aggregator in needs.SUM_GRAMS
        server += needs.server_bytes(projector, canonical=sums_grams, kept=rule.sends - _OF_RULES)
    apart = sum(_learners_apart(method, sizes) for method in recipe.run.methods if not is_federated(method))
    server += apart * needs.APART_COPIES * needs.all_bytes(projector)
    server += len(rules) * _old_versions(recipe, sizes, projector)
    main = needs.PROCESS + needs.MAIN_PAIR * pairs
    encoding = vision.loaded * item + scaled
    if not on_gpu:
        encoding += needs.encoding_bytes(vision, images=needs.ENCODED, item=item)
    others = ranks.here - 1  # ranks beside this one; they help to encode
    count = ranks.processes(recipe)
    beside = needs.WORKER_PROCESS if count > 1 or others else 0
    worker = held + needs.WORKER_PAIR * pairs + beside
    preparing = main + encoding + others * (encoding + needs.WORKER_PAIR * pairs + needs.WORKER_PROCESS)
    training = main + server + count * worker
    if ranks.size > 1:  # this process is one of them
        training -= beside
        preparing, training = preparing + needs.LAUNCHER, training + needs.LAUNCHER
    on_one_gpu = 1 if ranks.size > 1 else count
    gpu = on_one_gpu * (needs.CUDA_PROCESS + frozen + work) if on_gpu else None
    return max(preparing, training), worker, frozen, batch, gpu


def _client_folders(
    recipe: Recipe, method: str, rule: Chosen | None, sizes: Sizes, projector: dict[str, needs.Shape]
) -> int:
    """Return the bytes that clients keep: for the objective, quantisation errors; without a server, all they learn."""
    by_step = needs.CLIENT_STATES * needs.kept_by_step(recipe.chosen(method), projector, apart=rule is None)
    if rule is None:  # the projector and AdamW's two moments
        return _learners_apart(method, sizes) * (needs.client_folder_bytes(projector, kept=3) + by_step)
    federation = recipe.federation
    rounded = federation.error_feedback and federation.payload != "float32"
    kept = (rule.objective in needs.KEEPS_A_PROJECTOR) + rounded
    return sizes.clients * (needs.client_folder_bytes(projector, kept=kept) + by_step)


def _learners_apart(method: str, sizes: Sizes) -> int:
    """Return how many learners a method without a server has."""
    return sizes.clients if reference_of(method) == "local" else 1


def _training_batch(recipe: Recipe, vision: VisionSize, language: LanguageSize, ranks: int) -> int:
    captions = recipe.data.max_caption_tokens + 1
    item = needs.ITEM[recipe.model.dtype]
    sample = needs.activation_bytes(language, tokens=_tokens(recipe, vision), captions=0, item=item)
    sample += needs.projector_activation_bytes(vision, language.width)
    together = -(-recipe.training.batch_size // ranks) * recipe.run.cohort
    samples = min(together, recipe.training.micro_batch or together)
    rows = min(samples * captions, recipe.model.logit_rows or samples * captions)
    return samples * sample + needs.logit_bytes(language, rows=rows, item=item)


def _tokens(recipe: Recipe, vision: VisionSize) -> int:
    """Return the longest sequence: patches, what stands around them, and a caption with its end."""
    around = 2 if recipe.model.prompt == "plain" else needs.CHAT_TOKENS  # <bos> and a separator
    return vision.patches + around + recipe.data.max_caption_tokens + 1


def _judged_batch(recipe: Recipe, vision: VisionSize, language: LanguageSize) -> int:
    """Return the bytes of an evaluation batch, without gradients: one block and the logits at a time."""
    captions = recipe.data.max_caption_tokens + 1
    one_block = LanguageSize(0, 1, language.width, language.queries, language.inner, language.vocabulary)
    item = needs.ITEM[recipe.model.dtype]
    sample = needs.activation_bytes(one_block, tokens=_tokens(recipe, vision), captions=0, item=item)
    samples = min(needs.JUDGED, recipe.evaluation.captions)
    rows = min(samples * captions, recipe.model.logit_rows or samples * captions)
    judged = samples * sample + needs.logit_bytes(one_block, rows=rows, item=item)
    world = recipe.data.format == "world" and recipe.evaluation.questions_per_kind
    asked = needs.ASKED if world or recipe.evaluation.questions else 0
    return max(judged, asked * (sample + needs.logit_bytes(one_block, rows=1, item=item)))


def _run_folder(recipe: Recipe, sizes: Sizes, projector: dict[str, needs.Shape]) -> int:
    """Return the bytes of prepared/ and of checkpoints: per method two, the one being written, two of best rounds."""
    total = (sizes.pairs or 0) * 4 * (recipe.data.max_caption_tokens + 20)
    for method in recipe.run.methods:
        rule = recipe.chosen(method) if is_federated(method) else None
        made: Aggregator | None = None if rule is None else rule.create_aggregator()
        learners = 1 if rule is not None else _learners_apart(method, sizes)
        one = needs.checkpoint_bytes(
            projector,
            learners=learners,
            canonical=made is not None and BASIS in made.sends,
            apart=rule is None,
            kept=() if made is None else made.sends - _OF_RULES,
        )
        if rule is not None:
            one += _old_versions(recipe, sizes, projector)
        total += 3 * one + 2 * learners * needs.all_bytes(projector)
        total += _client_folders(recipe, method, rule, sizes, projector)
        total += kept_replies_bytes(recipe, method, rule, sizes, projector)
    return total


def _old_versions(recipe: Recipe, sizes: Sizes, projector: dict[str, needs.Shape]) -> int:
    """Return the bytes of the versions that asynchronous clients are out with: at the most one for each client."""
    federation = recipe.federation
    sent = forms(federation.payload, federation.broadcast_payload)
    return sizes.clients * payload_bytes(projector, sent.state) if federation.mode == "async" else 0


def kept_replies_bytes(
    recipe: Recipe, method: str, rule: Chosen | None, sizes: Sizes, projector: dict[str, needs.Shape]
) -> int:
    """Bytes of one reply per client, which are kept while a round is open; where an opening round comes first, two."""
    if rule is None:
        return _learners_apart(method, sizes) * needs.all_bytes(projector)
    sent = forms(recipe.federation.payload, recipe.federation.broadcast_payload)
    taking_part = max(1, round(recipe.federation.participation * sizes.clients))
    exchanges = 2 if rule.create_aggregator().opening else 1
    return exchanges * taking_part * needs.wire(rule, projector, sent).up


def _wire(recipe: Recipe, sizes: Sizes, projector: dict[str, needs.Shape]) -> dict[str, int]:
    taking_part = max(1, round(recipe.federation.participation * sizes.clients))
    federated = [method for method in recipe.run.methods if is_federated(method)]
    sent = forms(recipe.federation.payload, recipe.federation.broadcast_payload)
    return {method: needs.wire(recipe.chosen(method), projector, sent).of(taking_part) for method in federated}
