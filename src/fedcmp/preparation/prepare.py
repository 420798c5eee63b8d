"""Everything that a run's learners need, worked out once and written to `prepared/` for the workers.

manifest.json               who holds what (scenarios/manifest.py)
samples.json, samples/      pictures for the report (samples.py)
tokens-train.safetensors    captions of the training pairs    tokens-evaluation.safetensors    of the held-out ones
setup.json                  rows, groups, questions, sizes
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypedDict

from transformers import PreTrainedTokenizerFast

from fedcmp.config import Recipe
from fedcmp.data.accounts import NOT_IN_SCENARIO, SET_ASIDE, account_of, log_accounts
from fedcmp.data.captions import check_vocabulary, tokenize_captions
from fedcmp.data.pairs import PairSource
from fedcmp.data.prepared import TokenTable
from fedcmp.data.store import FeatureStore
from fedcmp.distributed import Group
from fedcmp.errors import UserError, counted
from fedcmp.evaluation.questions import QuestionItem, question_ids, read_questions
from fedcmp.files import write_whole
from fedcmp.model.text_format import TextFormat, check_length
from fedcmp.preparation.accounting import pairs_lines
from fedcmp.preparation.built_partition import BuiltPartition, built_partition, check_built, open_built
from fedcmp.preparation.loading import (
    Prepared,
    chain,
    initial_trainable,
    load_encoder,
    load_prepared,
    load_text,
    try_language,
)
from fedcmp.preparation.partition import (
    Usable,
    check_comparable,
    hold_out,
    in_turn,
    partition_pairs,
    readable,
    used_share,
)
from fedcmp.preparation.samples import choose, keep_pictures
from fedcmp.preparation.setup_file import SETUP, read_setup, write_setup
from fedcmp.preparation.sources import (
    HELD_OUT,
    Collection,
    Progress,
    check_refused,
    evaluation_collection,
    frozen_features,
    read_contents,
    source_fingerprint,
    training_collections,
)
from fedcmp.scenarios.manifest import Indices, Manifest
from fedcmp.scenarios.partition import swap_captions

_VOCABULARY_SAMPLE = 5000


class Helpers(Protocol):
    """Other ranks that help to compute features (simulation/crew.py)."""

    group: Group

    def calls_for_features(self, collection: int) -> Callable[[int], None]:
        """Return what sets them to work on a collection's feature store, called with the shard size."""


def prepare(
    recipe: Recipe, folder: Path, progress: Progress, *, helpers: Helpers | None = None, first_position: int = 0
) -> Prepared:
    """Open, check, tokenise, partition; write the result to `folder` for the workers and for a resumed run.

    Args:
        recipe: the run.
        folder: `prepared/` of the run; an earlier content must fit.
        progress: called with what is being done, how much of it, out of how much.
        helpers: other ranks, which help to compute the features.
        first_position: of these pairs, where they are one client's and others hold those before them: its order and
            its held-out pairs are then what they are where one machine holds all.

    Returns:
        What `load_prepared` gives the workers.

    Raises:
        UserError: unusable data, or data that changed since the run began.
    """
    text = load_text(recipe)
    encoder = load_encoder(recipe)
    longest = recipe.data.max_caption_tokens
    check_length(text, num_patches=encoder.num_patches, max_caption_tokens=longest, vision_name=recipe.model.vision)
    initial_trainable(recipe, encoder.width, text.width)  # one that does not fit is told before anything is computed
    if not (folder / "setup.json").exists():
        check_comparable(recipe, encoder)
        try_language(recipe, progress)
    collections = training_collections(recipe, progress)
    log_accounts([account_of(collection.source) for collection in collections])
    check_refused(recipe, collections)
    if recipe.scenario.kind == "manifest":
        open_built(recipe)
    _check_vocabulary(recipe, text.tokenizer, collections)
    read_contents(collections, progress)
    if recipe.scenario.kind == "manifest":
        check_built(recipe, collections[0].source)  # before features of hours are computed
    features = [
        frozen_features(recipe, c, encoder, progress, **_helped(helpers, number))
        for number, c in enumerate(collections)
    ]
    every_feature = list(features)
    held_out = evaluation_collection(recipe, progress)

    read = Usable(collections, features)
    built: BuiltPartition | None = None
    if recipe.scenario.kind == "manifest":
        built = built_partition(recipe, collections[0].source, read.keys)
        if held_out is None and recipe.evaluation.split == "validation":
            built = built.for_validation(recipe.run.seed)
        names, holdings = built.names, built.holdings
    else:
        holdings = partition_pairs(recipe, collections, read, encoder, progress)
        names = [c.name for c in recipe.data.clients] or [f"client-{k}" for k in range(len(holdings))]
    groups = [group or "all" for group in read.groups]
    if held_out is None:
        holdings, judged = (holdings, built.held_out) if built else hold_out(recipe, holdings, names, first_position)
        judged = [readable(held, read, chain(features, [len(c.source) for c in collections])) for held in judged]
        if not any(read.groups):
            for name, held in zip(names, judged, strict=True):
                for position in held.tolist():
                    groups[position] = name
        owners = {p: name for name, held in zip(names, judged, strict=True) for p in held.tolist()}
        judged_read, positions, question_file = read, in_turn(judged), recipe.evaluation.questions
        judged_groups = [groups[p] for p in positions]
    else:
        held_features = frozen_features(recipe, held_out, encoder, progress, **_helped(helpers, HELD_OUT))
        every_feature.append(held_features)
        judged_read = Usable([held_out], [held_features])
        positions, question_file = list(range(len(judged_read.rows))), held_out.questions
        owners = dict.fromkeys(positions, held_out.name)
        judged_groups = [group or "all" for group in judged_read.groups]
    judged_rows = [judged_read.rows[p] for p in positions]
    judged_names = [(judged_read.keys[p], owners[p]) for p in positions]

    if recipe.data.train_share < 1:
        holdings = used_share(recipe, holdings, first_position)
        built = built.of_holdings(holdings) if built else None
    shares = {int(client): share for client, share in recipe.scenario.wrong_captions.items()}
    swapped = swap_captions(holdings, shares, seed=recipe.run.seed)
    manifest = Manifest(names, holdings, swapped, built.parts if built else None)
    _check_parts(recipe, manifest)
    tokens = _tokens(recipe, text, read.captions)
    if held_out is None:
        judged_tokens = tokens.take(positions)
    else:
        judged_tokens = _tokens(recipe, text, [judged_read.captions[p] for p in positions])
    questions: list[QuestionItem] = []
    if question_file is not None and recipe.evaluation.questions_per_kind:
        ids = question_ids([key for key, _ in judged_names], [owner for _, owner in judged_names])
        per_kind = recipe.evaluation.questions_per_kind
        questions = read_questions(question_file, ids, text.reader, per_kind=per_kind, asked=text.asked)
    setup = {
        "fingerprint": source_fingerprint([*collections, *([held_out] if held_out else [])]),
        "manifest": manifest.hash(),
        "vision_width": encoder.width,
        "pad": text.pad,
        "sizes": [len(c.source) for c in collections],
        "feature_keys": [f.key for f in every_feature if isinstance(f, FeatureStore)],
        "train": {"rows": read.rows, "groups": groups},
        "evaluation": {"rows": judged_rows, "groups": judged_groups, "names": judged_names},
        "questions": [asdict(question) for question in questions],
        "data": _data_lines(recipe, manifest, read, groups, built.missing if built else None),
        "pairs": pairs_lines(
            list(zip([*collections, *([held_out] if held_out else [])], every_feature, strict=True)),
            _owners(manifest.holdings, read),
            [len(collections)] * len(positions) if held_out else [read.owner[p] for p in positions],
            judged=recipe.evaluation.captions,
            rest=NOT_IN_SCENARIO if built else SET_ASIDE,
            cut=_cut_captions(read, tokens, judged_tokens if held_out else None, text.end),
        ),
    }
    if _write(folder, setup, manifest, tokens, judged_tokens):
        chosen = choose(judged_groups[: recipe.evaluation.captions], recipe.evaluation.samples)
        judged_collections = [held_out] if held_out else collections
        places = [_place(judged_collections, judged_rows[i]) for i in chosen]
        keep_pictures(folder, chosen, places, [judged_groups[i] for i in chosen], max_pixels=recipe.data.max_pixels)
        write_setup(folder, setup)  # last: says that the rest is there
    return load_prepared(recipe, folder, encoder=encoder)


class _Help(TypedDict, total=False):
    group: Group
    call_others: Callable[[int], None]


def _helped(helpers: Helpers | None, collection: int) -> _Help:
    return {"group": helpers.group, "call_others": helpers.calls_for_features(collection)} if helpers else {}


def _check_vocabulary(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, collections: list[Collection]) -> None:
    """Look through some captions of all collections; no image is read for it."""
    step = max(1, sum(len(collection.source) for collection in collections) // _VOCABULARY_SAMPLE)
    check_vocabulary(
        tokenizer,
        [c.source.pair(index).caption for c in collections for index in range(0, len(c.source), step)],
        model_name=f"model.language = {recipe.model.language!r}",
        max_unknown_fraction=recipe.data.max_unknown_fraction,
    )


def _tokens(recipe: Recipe, text: TextFormat, captions: list[str]) -> TokenTable:
    longest = recipe.data.max_caption_tokens
    return TokenTable.of(tokenize_captions(text.tokenizer, captions, max_tokens=longest, eos_token_id=text.end))


def _owners(holdings: Sequence[Indices], read: Usable) -> list[int]:
    """The collection of every pair that is trained on."""
    return [read.owner[position] for mine in holdings for position in mine.tolist()]


def _cut_captions(read: Usable, tokens: TokenTable, judged: TokenTable | None, end: int) -> Counter[int]:
    """How many captions of each collection were cut; the held-out one, if there is one, comes last."""
    owners = [read.owner[position] for position in tokens.cut(end).nonzero()[0].tolist()]
    found = Counter(owners)
    if judged is not None:
        found[len(read.accounts)] = int(judged.cut(end).sum())
    return found


def _check_parts(recipe: Recipe, manifest: Manifest) -> None:
    rounds = recipe.federation.rounds
    for name, mine in zip(manifest.names, manifest.holdings, strict=True):
        if len(mine) < rounds:
            raise UserError(
                f"client {name}: holds {counted(len(mine), 'training pair')}, fewer than federation.rounds = {rounds}; "
                "each round needs at least one: use fewer rounds, fewer clients or more pairs"
            )


def _data_lines(
    recipe: Recipe, manifest: Manifest, read: Usable, groups: list[str], missing: list[int] | None
) -> list[dict[str, Any]]:
    lines = []
    for number, (name, mine) in enumerate(zip(manifest.names, manifest.holdings, strict=True)):
        bad = read.accounts[number if recipe.data.clients else 0].refused if recipe.data.clients or not number else {}
        counts = Counter(groups[position] for position in mine.tolist())
        lines.append(
            {
                "kind": "data",
                "client": number,
                "client_name": name,
                "num_pairs": len(mine),
                "bad_pairs": dict(bad),
                "wrong_captions": sum(position in manifest.swapped for position in mine.tolist()),
                "groups": dict(sorted(counts.items())),
            }
            | ({"missing_pairs": missing[number]} if missing is not None else {})
        )
    return lines


def _place(collections: list[Collection], row: int) -> tuple[PairSource, int]:
    for collection in collections:
        if row < len(collection.source):
            return collection.source, row
        row -= len(collection.source)
    raise IndexError(row)


def _write(folder: Path, setup: dict[str, Any], manifest: Manifest, tokens: TokenTable, judged: TokenTable) -> bool:
    """Everything but setup.json; False where all of it is there already."""
    path = folder / SETUP
    if path.exists():
        if read_setup(folder) != json.loads(json.dumps(setup)):
            raise UserError(f"{path}: the data or their partition changed since the run began; start with --overwrite")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "manifest.json", json.dumps(manifest.content()).encode())
    tokens.write(folder / "tokens-train.safetensors")
    judged.write(folder / "tokens-evaluation.safetensors")
    return True
