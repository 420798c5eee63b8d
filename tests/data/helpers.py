"""Small real files and a stand-in for the frozen encoder."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from webdataset.writer import TarWriter

from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.source import Pair


def picture(number: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """A noise picture of its own for each number."""
    pixels = np.random.RandomState(number).randint(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def write_llava(folder: Path, records: list[object], *, lines: bool = False, name: str = "pairs.json") -> Path:
    """An annotation file."""
    path = folder / name
    text = "".join(json.dumps(r) + "\n" for r in records) if lines else json.dumps(records)
    path.write_text(text, encoding="utf-8")
    return path


def conversation(caption: object, **fields: object) -> dict[str, object]:
    """A record as LLaVA-Pretrain has them."""
    turns = [{"from": "human", "value": "Describe it.\n<image>"}, {"from": "gpt", "value": caption}]
    return {"conversations": turns, **fields}


def write_tar(path: Path, samples: list[dict[str, bytes]]) -> Path:
    """A shard as webdataset's own writer makes it; samples hold "__key__" and one entry an extension."""
    with path.open("wb") as file:
        writer = TarWriter(file, encoder=False)
        for sample in samples:
            writer.write(sample)
        writer.close()
    return path


class FakeEncoder:
    """Four patches of three means each, a function of the picture alone; can fail at a given picture."""

    def __init__(self, *, scale: float = 1.0, fail_after: int | None = None):
        self.scale, self.fail_after, self.seen = scale, fail_after, 0

    def resized(self, image: Image.Image) -> Image.Image:
        return image

    def encode(self, images: list[Image.Image]) -> Tensor:
        self.seen += len(images)
        if self.fail_after is not None and self.seen > self.fail_after:
            raise KeyboardInterrupt
        arrays = [np.asarray(image.resize((8, 8), Image.Resampling.NEAREST), np.float32) for image in images]
        blocks = torch.from_numpy(np.stack(arrays)).reshape(len(images), 2, 4, 2, 4, 3)
        return blocks.sum((2, 4)).reshape(len(images), 4, 3) / 4080 * self.scale

    def fingerprint(self) -> str:
        return hashlib.sha256(f"fake {self.scale}".encode()).hexdigest()


class ListSource:
    """Pairs in memory: PNG bytes, or None for a missing picture."""

    name = "list"

    def __init__(self, images: list[bytes | None], rejected: list[Rejected] | None = None):
        self.images, self.rejected = images, rejected or []
        self.unused: dict[str, int] = {}
        self.ignored: dict[str, int] = {}
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def pair(self, index: int) -> Pair:
        return Pair(f"key-{index}", f"caption {index}")

    def read_image(self, index: int) -> bytes:
        self.reads.append(index)
        data = self.images[index]
        if data is None:
            raise BadPair("missing")
        return data

    def fingerprint(self, progress: object = None) -> str:
        return hashlib.sha256(b"|".join(data or b"-" for data in self.images)).hexdigest()

    def locate(self, index: int) -> str:
        return f"list[{index}]"


def list_source(count: int, *, missing: tuple[int, ...] = (), rejected: list[Rejected] | None = None) -> ListSource:
    """`count` noise pictures, some of them missing."""
    return ListSource([None if i in missing else encoded(picture(i)) for i in range(count)], rejected)
