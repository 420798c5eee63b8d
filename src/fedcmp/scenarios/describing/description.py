"""What scenarios look like: sizes, maps, how sharply they partition, pictures and words of each client; plain facts.

All scenarios that are described together were cut from the same embeddings and are shown by the same pairs: a seeded
sample of those that at least one of them holds. There is one layout a metric, coloured by each scenario's clients.

sizes, rounds      of all pairs
nearest pairs      of all pairs, by one pass over the embeddings (nearest.py)
maps, measures     of the sample; only its vectors are gathered
telling words      of the captions of at least 10,000 sampled pairs (telling_words.py)

A client's pairs are those that it trains on and those that it holds out. Memory is a few hundred bytes a pair, for its
id and who holds it, and does not grow with the width of the embeddings.
Shapes: N pairs, S sample, K clients, E embedding width.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcmp.data.batches import one_pass_order
from fedcmp.data.source import PairSource
from fedcmp.errors import UserError
from fedcmp.scenarios.built import BuiltScenario
from fedcmp.scenarios.describing.heterogeneity import METRICS, Floats, frechet_of_random_shares, heterogeneity
from fedcmp.scenarios.describing.maps import map_of
from fedcmp.scenarios.describing.nearest import Centres, Nearest, nearest_pairs
from fedcmp.scenarios.describing.sample_pairs import SamplePairs, open_source
from fedcmp.scenarios.describing.telling_words import simple_words, telling_words
from fedcmp.scenarios.embeddings.folder import EmbeddingFolder

SAMPLE = 2000
PICTURES = 6  # a client
MOST_CLIENTS = 24  # of a scenario whose pictures and words are shown
_SPARE = 4  # further pairs a client, for pictures that cannot be read
_CAPTIONS = 10_000  # read for the words, at least
_TOLD = 500  # captions between two reports of progress
_DRAW = 0x73686F77  # keeps the sample's draws apart from those of the partition, which may have the same seed
Owners = NDArray[np.int32]
Progress = Callable[[str, int, int], None]


def describe_folders(
    folders: Sequence[Path],
    *,
    embeddings: Path | None = None,
    seed: int = 0,
    sample: int = SAMPLE,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Describe scenarios on disk.

    Args:
        folders: the scenarios, in the order in which they are shown; all cut from the same embeddings.
        embeddings: the folder of embeddings, if it has moved since.
        seed: of the sample and of the maps.
        sample: pairs on the maps and in the measures, at most.
        progress: called with what is being done, how much of it, out of how much.

    Returns:
        As `describe_built`.

    Raises:
        UserError: no scenario, no embeddings, or scenarios of other embeddings.
    """
    if not folders:
        raise UserError("no scenario is named: give the folder of at least one")
    read = [BuiltScenario.read(Path(folder)) for folder in folders]
    where = read[0].inputs.get("embeddings") if embeddings is None else embeddings
    if where is None:
        raise UserError(f"{folders[0]}: does not say where its embeddings are: name their folder with --embeddings")
    if embeddings is None and not Path(where).is_dir():
        raise UserError(f"{where}: the embeddings of {folders[0]} are not there: name their folder with --embeddings")
    opened = EmbeddingFolder(Path(where))
    source, missing = open_source(opened.source)
    named = list(zip(_names(folders), read, strict=True))
    return describe_built(named, opened, source, seed=seed, sample=sample, missing=missing, progress=progress)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same name."""
    names = [Path(folder).resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def describe_built(
    scenarios: Sequence[tuple[str, BuiltScenario]],
    embeddings: EmbeddingFolder,
    source: PairSource | None,
    *,
    seed: int,
    sample: int,
    missing: str = "",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Describe scenarios that were cut from the same embeddings.

    Args:
        scenarios: name and scenario, in the order in which they are shown.
        embeddings: what they were cut from.
        source: the pairs, for pictures and words; None if they cannot be opened.
        seed: of the sample and of the maps.
        sample: pairs on the maps and in the measures, at most.
        missing: why there is no source.
        progress: called with what is being done, how much of it, out of how much.

    Returns:
        (facts, thumbnails). Facts as JSON can hold them: embeddings {model, width, pairs, source}, seed, sample (S),
        captions (read for the words), missing, maps {metric: {x, y} or None}, and scenarios, each with name, title,
        options, facts, versions, metric (its own, None if it was not cut by one), pairs (held), owners (S, a client or
        -1), similarity and silhouette (as `heterogeneity`), frechet {metric: {clients, random}}, and clients, each with
        name, pairs, rounds, held_out, pruned, alignment, words [[word, z]] and nearest [{id, similarity, caption,
        picture}]. Thumbnails: the pictures' files by the names in `picture`.

    Raises:
        UserError: embeddings other than those the scenario was cut from, an id that they do not hold, or that is there
            twice.
    """
    tell: Progress = progress or _silent
    for name, built in scenarios:
        if built.embeddings.get("fingerprint") != embeddings.fingerprint:
            raise UserError(
                f"{name}: was cut from other embeddings than {embeddings.folder}: name its own with --embeddings"
            )
    ids = embeddings.ids()
    rows = {one: row for row, one in enumerate(ids)}
    owners = [_owners(name, built, rows, embeddings.folder) for name, built in scenarios]
    del rows
    held = np.flatnonzero(np.any([owner >= 0 for owner in owners], axis=0))
    order = held[one_pass_order(len(held), seed + _DRAW)]
    sampled, drawn = np.sort(order[:sample]), order[: max(sample, _CAPTIONS)]
    v, t = (embeddings.gather(part, sampled).astype(np.float64) for part in ("image", "text"))

    centres = [_centres(built, owner) for (_, built), owner in zip(scenarios, owners, strict=True)]
    pairs = SamplePairs(source, embeddings, ids) if source is not None else None
    nearest: list[Nearest] = [[] for _ in scenarios]
    captions: dict[int, list[str]] = {}
    if pairs is not None:
        nearest = nearest_pairs(
            embeddings, centres, PICTURES + _SPARE, progress=lambda done, total: tell("nearest pairs", done, total)
        )
        captions = _words(pairs, drawn, tell)
    thumbnails: dict[str, bytes] = {}
    facts: dict[str, Any] = {
        "embeddings": {
            "model": embeddings.model.get("name", "?"),
            "source": embeddings.source.get("name", "?"),
            "pairs": len(embeddings),
            "width": embeddings.width,
        },
        "seed": seed,
        "sample": len(sampled),
        "captions": len(captions),
        "missing": "" if source is not None else missing or "the pairs were not opened",
        "maps": _maps(v, t, seed, tell),
        "scenarios": [],
    }
    for (name, built), owner, found in zip(scenarios, owners, nearest, strict=True):
        mine = owner[sampled].astype(np.int64)
        measured = heterogeneity(v, t, mine, len(built.clients), seed=seed, sample=len(mine))
        random = frechet_of_random_shares(v, t, mine, seed=seed)
        clients = _clients(built, measured["alignment"], _told(captions, owner, len(built.clients)))
        for client, one in zip(clients, found[:MOST_CLIENTS], strict=False):
            client["nearest"] = _shown(pairs, ids, one, thumbnails) if pairs is not None else []
        facts["scenarios"].append(
            {
                "name": name,
                "title": built.name,
                "options": built.options,
                "facts": built.facts,
                "versions": built.versions,
                "metric": _own_metric(built),
                "pairs": int((owner >= 0).sum()),
                "owners": mine.tolist(),
                "similarity": measured["similarity"],
                "silhouette": measured["silhouette"],
                "frechet": {
                    metric: {"clients": value, "random": random[metric]}
                    for metric, value in measured["frechet"].items()
                },
                "clients": clients,
            }
        )
    return facts, thumbnails


def _owners(name: str, built: BuiltScenario, rows: dict[str, int], folder: Path) -> Owners:
    """(N,) the client that holds each row, -1 for none."""
    owner = np.full(len(rows), -1, np.int32)
    for number, client in enumerate(built.clients):
        for ids in (*client.rounds, client.held_out):
            try:
                mine = np.fromiter((rows[one] for one in ids), np.int64, len(ids))
            except KeyError as unknown:
                raise UserError(
                    f"{name}: {client.name} holds {unknown.args[0]!r}, which {folder} does not: "
                    "name the embeddings that it was built from with --embeddings, or build it again"
                ) from None
            if len(np.unique(mine)) < len(mine) or (owner[mine] >= 0).any():
                raise UserError(f"{name}: {client.name} holds a pair that is held already: build the scenario again")
            owner[mine] = number
    return owner


def _own_metric(built: BuiltScenario) -> str | None:
    similarity = built.options.get("similarity")
    return similarity if built.options.get("division", "clusters") == "clusters" and similarity in METRICS else None


def _centres(built: BuiltScenario, owner: Owners) -> Centres:
    """Centroids with the scenario's own similarity; joint where it was not cut by one."""
    return Centres(owner, built.centroids["image"], built.centroids["text"], _own_metric(built) or "joint")


def _maps(v: Floats, t: Floats, seed: int, tell: Progress) -> dict[str, Any]:
    maps: dict[str, Any] = {}
    for number, metric in enumerate(METRICS):
        layout = map_of(v, t, metric, seed=seed)
        columns = None if layout is None else layout.round(2).T.tolist()
        maps[metric] = None if columns is None else dict(zip("xy", columns, strict=True))
        tell("maps", number + 1, len(METRICS))
    return maps


def _words(pairs: SamplePairs, rows: NDArray[np.int64], tell: Progress) -> dict[int, list[str]]:
    """Row -> its caption's words, for the captions that can be read."""
    found = {}
    for number, row in enumerate(np.sort(rows).tolist()):
        caption = pairs.caption(row)
        if caption is not None:
            found[row] = simple_words(caption)
        if not (number + 1) % _TOLD or number + 1 == len(rows):
            tell("captions", number + 1, len(rows))
    return found


def _told(captions: dict[int, list[str]], owner: Owners, clients: int) -> list[list[tuple[str, float]]]:
    counts: list[Counter[str]] = [Counter() for _ in range(clients)]
    for row, words in captions.items():
        if owner[row] >= 0:
            counts[owner[row]].update(words)
    return telling_words(counts)


def _clients(
    built: BuiltScenario, alignment: list[float | None], words: list[list[tuple[str, float]]]
) -> list[dict[str, Any]]:
    return [
        {
            "name": client.name,
            "pairs": client.size,
            "rounds": [len(ids) for ids in client.rounds],
            "held_out": len(client.held_out),
            "pruned": client.pruned,
            "alignment": aligned,
            "words": [[word, round(z, 2)] for word, z in told] if number < MOST_CLIENTS else [],
            "nearest": [],
        }
        for number, (client, aligned, told) in enumerate(zip(built.clients, alignment, words, strict=True))
    ]


def _shown(
    pairs: SamplePairs, ids: list[str], nearest: list[tuple[int, float]], thumbnails: dict[str, bytes]
) -> list[dict[str, Any]]:
    """The nearest pairs whose pictures can be read."""
    shown = []
    for row, similarity in nearest:
        name, caption = f"pair-{row}", pairs.caption(row)
        content = thumbnails.get(name) or pairs.thumbnail(row)
        if caption is None or content is None:
            continue
        thumbnails[name] = content
        shown.append({"id": ids[row], "similarity": round(similarity, 4), "caption": caption, "picture": name})
        if len(shown) == PICTURES:
            break
    return shown


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nothing."""
