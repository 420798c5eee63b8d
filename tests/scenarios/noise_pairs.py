"""A small collection with some bad pairs, and what became of it."""

import numpy as np
from PIL import Image

from fedcmp.scenarios.embeddings.pair_files import find_pairs
from tests.data.helpers import encoded, write_llava

COUNT = 23
WORDS = ["a", "photo", "of", "a", "small", "red", "circle", "at", "the", "top", "left"]
OPTIONS = {"workers": 1, "device": "cpu", "batch_size": 3, "shard_size": 8, "max_bad_fraction": 0.5}


def picture(number, size=48):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8))


def caption(number):
    return " ".join(WORDS[: 2 + number % 9]) + " ."


def noise_pairs(folder):
    """LLaVA's JSON: the fifth image is cut off, the ninth not there, the tenth a strip with an id of two lines."""
    folder.mkdir()
    records = []
    for number in range(COUNT):
        content = encoded(Image.new("RGB", (1, 9000)) if number == 9 else picture(number))
        if number != 8:
            (folder / f"{number}.png").write_bytes(content[:-200] if number == 4 else content)
        name = f"id\n{number}" if number == 9 else f"id-{number}"
        records.append({"id": name, "image": f"{number}.png", "caption": caption(number)})
    records.append({"id": "none", "image": "0.png", "caption": " "})
    return find_pairs([write_llava(folder, records)])


def files(folder):
    """All that counts of a folder of embeddings."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jsonl")
    }
