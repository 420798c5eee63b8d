"""A drawn world as real files: LLaVA-format JSON with PNG pictures, WebDataset tars or parquet; and its questions.

images/000123.png, pairs.json, questions.jsonl      (llava)
shard-0000.tar ..., questions.jsonl                 (webdataset)
pairs.parquet, questions.jsonl                      (parquet, as Hugging Face datasets have it)
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import webdataset
from PIL import Image

from fedcmp.errors import UserError
from fedcmp.extras import require
from fedcmp.world.scene import EMBEDDED, Scenes, World, scenes_at
from fedcmp.world.worlds import WORLDS

Split = Literal["train", "validation", "test"]
SPLITS = dict(EMBEDDED.streams)  # of the embedded world
_CHUNK, _SHARD = 512, 2000


def export_world(
    folder: Path,
    *,
    split: Split,
    count: int,
    format: Literal["llava", "webdataset", "parquet"] = "llava",
    picture: Literal["png", "jpeg"] = "png",
    indices: Sequence[int] | None = None,
    world: str = EMBEDDED.name,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the first `count` scenes of a split, or chosen ones; the folder appears whole or not at all.

    Args:
        folder: must not exist yet, or be empty.
        split: "train", "validation" or "test"; they share no scene.
        count: scenes.
        format: "llava", "webdataset" or "parquet".
        picture: "png", exact, or "jpeg", quality 95.
        indices: the scenes of the split to write, `count` of them; default: the first.
        world: name of the world, "embedded" or "untouched".
        on_progress: called with scenes written and their total.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; give a new folder")
    if format == "parquet":
        require("pyarrow", "parquet", "--format parquet")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        write = {"llava": _write_llava, "webdataset": _write_webdataset, "parquet": _write_parquet}[format]
        wanted = range(count) if indices is None else indices
        write(unfinished, _scenes(WORLDS[world], split, wanted, on_progress), picture)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _scenes(
    world: World, split: str, indices: Sequence[int], on_progress: Callable[[int, int], None] | None
) -> Iterator[Scenes]:
    for start in range(0, len(indices), _CHUNK):
        yield scenes_at(world.streams[split], indices[start : start + _CHUNK], world=world)
        if on_progress is not None:
            on_progress(min(start + _CHUNK, len(indices)), len(indices))


def _encoded(pixels: Any, picture: str) -> bytes:
    out = io.BytesIO()
    options = {"compress_level": 1} if picture == "png" else {"quality": 95}
    Image.fromarray(pixels).save(out, picture, **options)
    return out.getvalue()


def _records(scenes: Scenes) -> Iterator[tuple[str, dict[str, Any], list[dict[str, str]]]]:
    """Key, labels and questions of each scene."""
    for i in range(len(scenes)):
        key = f"{scenes.indices[i]:06d}"
        labels = {"group": scenes.families[i], "style": scenes.style_names[i]}
        questions = [
            {"id": key, "kind": q.kind, "question": f"question : {q.text} answer :", "answer": q.answer}
            for q in scenes.questions[i]
        ]
        yield key, labels, questions


def _write_llava(folder: Path, chunks: Iterator[Scenes], picture: str) -> None:
    (folder / "images").mkdir()
    with (folder / "pairs.json").open("w") as pairs, (folder / "questions.jsonl").open("w") as asked:
        separator = "[\n"
        for scenes in chunks:
            for i, (key, labels, questions) in enumerate(_records(scenes)):
                name = f"{key}.{picture}"
                (folder / "images" / name).write_bytes(_encoded(scenes.images[i], picture))
                turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": scenes.captions[i]}]
                pairs.write(separator + json.dumps({"id": key, "image": name, "conversations": turns, **labels}))
                separator = ",\n"
                asked.writelines(json.dumps(question) + "\n" for question in questions)
        pairs.write("\n]\n")


def _write_webdataset(folder: Path, chunks: Iterator[Scenes], picture: str) -> None:
    with (
        webdataset.ShardWriter(str(folder / "shard-%04d.tar"), maxcount=_SHARD, verbose=0) as shards,
        (folder / "questions.jsonl").open("w") as asked,
    ):
        for scenes in chunks:
            for i, (key, labels, questions) in enumerate(_records(scenes)):
                content = {"caption": scenes.captions[i], **labels}
                shards.write({"__key__": key, picture: _encoded(scenes.images[i], picture), "json": content})
                asked.writelines(json.dumps(question) + "\n" for question in questions)


def _write_parquet(folder: Path, chunks: Iterator[Scenes], picture: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("id", "image", "caption", "group", "style")
    types = (pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())]), *[pa.string()] * 3)
    schema = pa.schema(list(zip(names, types, strict=True)))
    with (
        pq.ParquetWriter(folder / "pairs.parquet", schema) as pairs,
        (folder / "questions.jsonl").open("w") as asked,
    ):
        for scenes in chunks:
            rows = []
            for i, (key, labels, questions) in enumerate(_records(scenes)):
                image = {"bytes": _encoded(scenes.images[i], picture), "path": f"{key}.{picture}"}
                rows.append({"id": key, "image": image, "caption": scenes.captions[i], **labels})
                asked.writelines(json.dumps(question) + "\n" for question in questions)
            pairs.write_table(pa.Table.from_pylist(rows, schema))
