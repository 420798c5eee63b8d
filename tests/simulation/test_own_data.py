"""A researcher's own folder: odd real files, open vocabulary, another LLM, another encoder."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.simulation.runner import fedcmp, last_projector, metrics

CAPTIONS = [
    "A quick brown fox jumps over the lazy dog.",
    "Zwei naïve Köche in Zürich verkaufen 37 Crêpes am Hafen.",
    "写真 of a mountain lake — très joli!",
    "a grey cat slept on the red roof while rain fell; nobody noticed.",
    "Two chefs 👩‍🍳 at the harbour on Monday",
]


def picture(number: int) -> bytes:
    """One picture in some mode and format; number decides."""
    rng = np.random.default_rng(number)
    mode, format = [
        ("RGB", "JPEG"),
        ("L", "PNG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("CMYK", "JPEG"),
        ("I;16", "PNG"),
        ("1", "PNG"),
        ("LA", "PNG"),
    ][number % 8]
    size = (20 + number % 50, 30 + number % 40)
    image = Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65535, size).astype(np.uint16))
    elif mode != "RGB":
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8
    out = io.BytesIO()
    image.save(out, format, **({"exif": exif} if format == "JPEG" else {}))
    return out.getvalue()


def organisation(folder: Path, count: int, *, jsonl: bool, first: int) -> None:
    """An image folder and its annotation file, some of both damaged."""
    (folder / "images").mkdir(parents=True)
    records = []
    for i in range(count):
        name = f"{i:04d}.img"
        content = picture(first + i)
        if i == 5:
            content = content[: len(content) // 2]  # truncated
        if i == 6:
            content = b"<html>404</html>"  # not an image
        if i != 7:  # missing
            (folder / "images" / name).write_bytes(content)
        caption = "   " if i == 8 else CAPTIONS[i % len(CAPTIONS)] + f" No. {i}."
        if i == 9:
            caption = "long " * 400
        records.append(
            {
                "id": f"{first}-{i}",
                "image": name,
                "conversations": [{"from": "human", "value": "Describe.\n<image>"}, {"from": "gpt", "value": caption}],
            }
        )
    text = "\n".join(map(json.dumps, records)) if jsonl else json.dumps(records)
    (folder / ("pairs.jsonl" if jsonl else "pairs.json")).write_text(text)


RECIPE = """
[run]
name = "own"
methods = ["fedavg", "shared-basis"]
workers = 1

[model]
vision = "{vision}"
language = "{language}"
projector = "{projector}"

[data]
format = "llava"
max_bad_fraction = {bad}
max_caption_tokens = 40
held_out = 0.1
feature_store = {store}

[[data.clients]]
name = "hospital"
pairs = "hospital/pairs.json"
images = "hospital/images"

[[data.clients]]
name = "museum"
pairs = "museum/pairs.jsonl"
images = "museum/images"

[scenario]
kind = "given"

[federation]
rounds = 2

[training]
batch_size = 8

[evaluation]
samples = 2
sample_tokens = 5
"""


@pytest.fixture
def own_data(tmp_path):
    organisation(tmp_path / "hospital", 60, jsonl=False, first=0)
    organisation(tmp_path / "museum", 50, jsonl=True, first=1000)
    return tmp_path


def write_recipe(folder, *, language, vision="world", bad=0.2, store=True, projector="mlp"):
    values = {"vision": vision, "language": language, "bad": bad, "store": str(store).lower(), "projector": projector}
    path = folder / "own.toml"
    path.write_text(RECIPE.format(**values))
    return path


def test_odd_files_with_an_open_vocabulary(own_data, byte_level_llm, siglip_folder, world_cache):
    path = write_recipe(own_data, language=byte_level_llm, vision=siglip_folder)
    done = fedcmp(own_data, world_cache, "train", path)
    run = own_data / "runs" / "own" / "shared-basis"
    data = {line["client_name"]: line for line in metrics(run) if line["kind"] == "data"}
    for name in ("hospital", "museum"):
        bad = data[name]["bad_pairs"]
        assert sum(bad.values()) == 4
        assert {"missing", "not an image", "empty caption"} <= set(bad)
    evaluations = [line for line in metrics(run) if line["kind"] == "evaluation"]
    assert set(evaluations[-1]["group_losses"]) == {"hospital", "museum"}
    assert evaluations[-1]["question_accuracy"] is None
    initial = next(line for line in evaluations if line["model"] == "initial")
    assert evaluations[-1]["caption_loss"] < initial["caption_loss"]
    loss = f"{evaluations[-1]['caption_loss']:.3f}"
    assert loss in done.stdout
    tables = (own_data / "runs" / "own" / "report" / "tables.md").read_text()
    assert "| Caption loss (nats/token ↓) |" in tables
    assert loss in tables
    assert "embedded world" not in tables.split("## Citation")[0]
    page = (own_data / "runs" / "own" / "report" / "index.html").read_text()
    assert "nats per caption token, held-out pairs, lower is better" in page
    assert "Nothing has been evaluated" not in page
    fedcmp(own_data, world_cache, "export", run, own_data / "llava")
    assert f"| this model (round {evaluations[-1]['round']}) | {loss} |" in (own_data / "llava/README.md").read_text()


@pytest.mark.slow
def test_features_computed_in_passing_give_the_same_projector(own_data, byte_level_llm, world_cache):
    """The same bits from a collection without bad pictures; bad ones are found on the way and left out there."""
    path = write_recipe(own_data, language=byte_level_llm, store=False, projector="linear")
    fedcmp(own_data, world_cache, "train", path)
    seen = sum(line["num_examples"] for line in metrics(own_data / "runs/own/fedavg") if line["kind"] == "client")
    training = 110 - 2 - 11  # two captions are empty, a tenth is held out; six pictures are bad, most of them here
    assert training - 6 <= seen < training
    for folder, annotations in (("hospital", "pairs.json"), ("museum", "pairs.jsonl")):
        text = (own_data / folder / annotations).read_text()
        records = json.loads(text) if annotations.endswith("json") else [json.loads(line) for line in text.splitlines()]
        (own_data / folder / annotations).write_text(json.dumps(records[10:]))
    projectors = []
    for store in (True, False):
        path = write_recipe(own_data, language=byte_level_llm, store=store, projector="linear")
        fedcmp(own_data, world_cache, "train", path, "--overwrite", "-o", "data.feature_dtype=float32")
        projectors.append(last_projector(own_data / "runs" / "own" / "fedavg"))
    assert projectors[0] == projectors[1]


def test_too_many_bad_pairs_stop_the_run(own_data, byte_level_llm, world_cache):
    path = write_recipe(own_data, language=byte_level_llm, bad=0.05)
    done = fedcmp(own_data, world_cache, "train", path, code=2)
    assert "max_bad_fraction = 0.05" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(own_data.glob("runs/own/*/metrics.jsonl"))


def test_the_worlds_llm_refuses_an_open_vocabulary(own_data, world_cache):
    path = write_recipe(own_data, language="world")
    done = fedcmp(own_data, world_cache, "train", path, code=2)
    assert "unknown" in done.stderr
    assert "model.language" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_collection_of_tars_divided_by_meaning(tmp_path, world_cache):
    """The world's own export in the other format, read as a user's shards are."""
    fedcmp(tmp_path, world_cache, "world", "export", tmp_path / "shards", "--format", "webdataset", "--count", "150")
    random.seed(0)
    (tmp_path / "own.toml").write_text(
        '[run]\nname = "own"\nmethods = ["fedavg"]\nworkers = 1\n'
        '[data]\nformat = "webdataset"\npairs = "shards/shard-*.tar"\n'
        '[scenario]\nkind = "joint"\nclients = 2\n[federation]\nrounds = 2\n'
        '[evaluation]\nquestions = "shards/questions.jsonl"\nsamples = 1\n'
    )
    fedcmp(tmp_path, world_cache, "train", tmp_path / "own.toml")
    evaluations = [line for line in metrics(tmp_path / "runs" / "own") if line["kind"] == "evaluation"]
    assert evaluations[-1]["question_accuracy"] is not None
    assert "shapes" in evaluations[-1]["group_losses"]
