"""Picture files to an encoder's pixel values: ours, by threads, over a loop through transformers' image processor.

    python benchmarks/pictures.py [--pictures 256] [--repeats 3] [--out results/pictures.txt]

JPEG files of 640 x 480 pixels are decoded and made into normalised batches for CLIP ViT-L/14 at 336 pixels. The plain
loop decodes them and gives batches of 64 to the processor. Ours reads them as it does for a feature store: each file is
decoded and resized in one of several threads, then batches are normalised. Both end in the same numbers: checked.
Features for a GPU are made with up to 8 threads; a CPU's encoder takes longer than its pictures, and has one.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from fedcmp.data.features import decoded
from fedcmp.data.images import DEFAULT_MAX_PIXELS, decode_image
from fedcmp.data.pairs import Pair
from fedcmp.data.quality import BadPair
from fedcmp.model.vision import VisionEncoder

SIDE, BATCH = 336, 64


class Files:
    """Picture files in memory, as a source of pairs."""

    name = "files"

    def __init__(self, files: list[bytes]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def pair(self, index: int) -> Pair:
        return Pair(str(index), "a picture")

    def read_image(self, index: int) -> bytes:
        return self._files[index]

    def fingerprint(self) -> str:
        return "files"

    def locate(self, index: int) -> str:
        return f"files[{index}]"


def drawn(count: int) -> list[bytes]:
    """JPEG files of 640 x 480 pixels, about 75 kB each."""
    random, files = np.random.RandomState(0), []
    for _ in range(count):
        coarse = Image.fromarray(random.randint(0, 256, (40, 53, 3)).astype(np.uint8))
        file = io.BytesIO()
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def encoder_in(folder: Path) -> VisionEncoder:
    """CLIP's image processor at 336 pixels, in front of a tower of a few random weights."""
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return VisionEncoder(str(folder))


def plain_loop(files: list[bytes], encoder: VisionEncoder) -> list[Tensor]:
    batches = []
    for first in range(0, len(files), BATCH):
        images = [decode_image(file) for file in files[first : first + BATCH]]
        batches.append(encoder.processor(images=images, return_tensors="pt")["pixel_values"])
    return batches


def ours(files: list[bytes], encoder: VisionEncoder, threads: int) -> list[Tensor]:
    batches, images = [], list[Image.Image]()
    pictures = decoded(
        Files(files), range(len(files)), resize=encoder.resized, max_pixels=DEFAULT_MAX_PIXELS, threads=threads
    )
    for index, picture in pictures:
        assert not isinstance(picture, BadPair)
        images.append(picture)
        if len(images) == BATCH or index == len(files) - 1:
            batches.append(encoder.pixel_values(images))
            images = []
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write what is printed there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = drawn(options.pictures)
    with tempfile.TemporaryDirectory() as name:
        encoder = encoder_in(Path(name))
        cores = os.cpu_count() or 1
        ways = {"transformers, a plain loop": lambda: plain_loop(files, encoder)}
        for threads in sorted({1, 2, min(8, cores)}):
            label = f"fedcmp, {threads} thread{'s' if threads > 1 else ''}"
            ways[label] = lambda threads=threads: ours(files, encoder, threads)
        expected = ways["transformers, a plain loop"]()
        speeds = {}
        for label, way in ways.items():
            seconds = []
            for _ in range(options.repeats):
                start = time.perf_counter()
                batches = way()
                seconds.append(time.perf_counter() - start)
            for got, wanted in zip(batches, expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
            speeds[label] = len(files) / min(seconds)
    plain = speeds["transformers, a plain loop"]
    lines = [f"{len(files)} JPEG files of 640 x 480, for {SIDE} x {SIDE}, batches of {BATCH}, {cores} cores"]
    lines += [f"{label:28s}{speed:7.0f} pictures/s  {speed / plain:5.2f}x" for label, speed in speeds.items()]
    print(*lines, sep="\n")
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
