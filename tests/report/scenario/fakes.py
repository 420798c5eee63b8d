"""Facts as scenarios/describing returns them, made up."""

import base64
import random

METRICS = ("image", "text", "joint", "cross")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
JPEG = b"\xff\xd8\xff\xe0 a photograph"


def client(number, *, name=None, pairs=100, picture="one"):
    nearest = {"id": f"id-{number}", "similarity": 0.5, "caption": f"caption {number}", "picture": picture}
    return {
        "name": name or f"client-{number}",
        "pairs": pairs,
        "rounds": [pairs // 2, pairs - pairs // 2],
        "held_out": 1,
        "pruned": 2,
        "alignment": 0.25 + number / 100,
        "words": [["dog", 5.25], ["cat", 3.0]],
        "nearest": [nearest] if picture else [],
    }


def scenario(name="image", *, metric="image", clients=3, silhouette=None, owners=None, sample=60):
    values = silhouette or {m: 0.3 if m == metric else 0.1 for m in METRICS}
    several = clients > 1
    similarity = {m: {"within": 0.5, "between": 0.2, "gap": 0.3} if several else None for m in METRICS}
    return {
        "name": name,
        "title": f"{metric or 'iid'}, {clients} clients",
        "options": {"similarity": metric or "image", "clients": clients, "cap": 1000000, "sizes": [], "seed": 0},
        "facts": {"objective": 0.6165},
        "versions": {"fedcmp": "0.1.0"},
        "metric": metric,
        "pairs": 100 * clients,
        "owners": owners or [i % (clients + 1) - 1 for i in range(sample)],
        "similarity": similarity,
        "silhouette": values,
        "frechet": {m: {"clients": 0.9, "random": 0.04} if several else _none() for m in METRICS[:3]},
        "clients": [client(k, pairs=100 * (k + 1)) for k in range(clients)],
    }


def _none():
    return {"clients": None, "random": None}


def facts(*scenarios, sample=60, missing="", maps=True):
    draw = random.Random(0)
    layout = {axis: [round(draw.gauss(0, 9), 2) for _ in range(sample)] for axis in "xy"}
    return {
        "embeddings": {"model": "world", "source": "pairs.json", "pairs": 1000, "width": 64},
        "seed": 0,
        "sample": sample,
        "captions": 0 if missing else 500,
        "missing": missing,
        "maps": dict.fromkeys(METRICS, layout if maps else None),
        "scenarios": list(scenarios) or [scenario()],
    }


def four():
    return facts(*(scenario(name, metric=name) for name in METRICS))
