"""A small collection on disk whose pictures fall into three groups and whose captions into three others."""

import json

import numpy as np
from PIL import Image

from fedcmp.data.pairs import open_pairs
from fedcmp.scenarios.built import BuiltScenario, ClientShare
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import directions, unit

PLANTED = ("zebra", "kettle", "violin")
COLOURS = ("red", "green", "blue")


def write_pairs(folder, count=90, side=40):
    """LLaVA-format pairs: pair i's picture has the colour i % 3, its caption the planted word of i // 3 % 3."""
    (folder / "images").mkdir(parents=True)
    records = []
    for i in range(count):
        Image.new("RGB", (side, side), COLOURS[i % 3]).save(folder / "images" / f"{i}.png")
        records.append(
            {"id": f"p{i:03d}", "image": f"{i}.png", "caption": f"a picture of the {PLANTED[i // 3 % 3]} {i}"}
        )
    (folder / "pairs.json").write_text(json.dumps(records))
    return open_pairs("llava", folder / "pairs.json", folder / "images")


def embed_pairs(folder, source, pairs):
    """Embeddings in which pictures lie by colour and captions by planted word."""
    count, rng = len(source), np.random.default_rng(0)
    axes, number = directions(6, 16, 0), np.arange(count)
    images = unit(axes[number % 3] + rng.normal(0, 0.05, (count, 16)))
    texts = unit(axes[3 + number // 3 % 3] + rng.normal(0, 0.05, (count, 16)))
    described = {
        "name": source.name,
        "fingerprint": source.fingerprint(),
        "format": "llava",
        "pairs": [str(pairs / "pairs.json")],
        "images": str(pairs / "images"),
    }
    names = [source.pair(i).key for i in range(count)]
    return embedding_folder(folder, images, texts, names=names, shard=40, source=described)


def built_by(embeddings, labels, *, similarity="image", division="clusters", rounds=2, held_out=1, names=None):
    """A scenario of K = max(labels) + 1 clients; pairs labelled -1 are pruned from client 0."""
    ids, clients = np.array(embeddings.ids()), []
    centroids = {part: [] for part in ("image", "text")}
    for k in range(max(labels) + 1):
        mine = np.flatnonzero(np.asarray(labels) == k)
        for part, rows in centroids.items():
            rows.append(unit(embeddings.gather(part, mine).astype(np.float64).sum(0, keepdims=True))[0])
        kept, held = ids[mine[held_out:]].tolist(), ids[mine[:held_out]].tolist()
        parts = tuple(tuple(part.tolist()) for part in np.array_split(np.array(kept), rounds))
        pruned = int(np.sum(np.asarray(labels) == -1)) if k == 0 else 0
        clients.append(ClientShare(names[k] if names else f"client-{k}", parts, tuple(held), pruned))
    return BuiltScenario(
        {"similarity": similarity, "division": division, "clients": len(clients), "seed": 0},
        {"fingerprint": embeddings.fingerprint, "source": {"name": "pairs.json"}},
        tuple(clients),
        {part: np.array(rows, np.float32) for part, rows in centroids.items()},
        {"objective": 0.5},
        {"fedcmp": "0"},
        {"embeddings": str(embeddings.folder), "source": embeddings.source},
    )
