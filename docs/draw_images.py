"""Draw the images of README.md: captions before and after training, and who sends what to whom.

    fedcmp demo && python docs/draw_images.py runs/demo

captions.png   held-out images of that run with the captions of an untrained projector, FedAvg and shared-basis
round.png      clients, server and result
"""

import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

import fedcmp

PLACE = Path(__file__).resolve().parent / "images"
SHOWN, LETTERS, LINES = 4, 33, 4
INK, QUIET, OURS, FROZEN, TRAINED = "#1a1a1a", "#666666", "#0b6e4f", "#e8edf2", "#fde9c8"
ROWS = (("before training", "initial", QUIET), ("FedAvg", "fedavg", INK), ("shared-basis", "shared-basis", OURS))


def draw_captions(run: fedcmp.Run, out: Path) -> None:
    """Draw some of a run's held-out images, each with what three models say about it."""
    samples = sorted((run.folder / "prepared" / "samples").glob("*.png"), key=lambda path: int(path.stem))[:SHOWN]
    figure = plt.figure(figsize=(10, 4.9), dpi=110)
    width = 1 / SHOWN
    for number, path in enumerate(samples):
        left = number * width + 0.012
        axis = figure.add_axes((left, 0.6, width - 0.024, 0.385), anchor="W")
        with Image.open(path) as image:
            axis.imshow(image.convert("RGB"), interpolation="nearest")
        axis.set_axis_off()
        for row, (title, method, colour) in enumerate(ROWS):
            place = 0.565 - 0.19 * row
            said = run.caption(path, method=method).replace(" .", ".").replace(" ,", ",")
            lines = textwrap.wrap(said, LETTERS, max_lines=LINES, placeholder=" ...")
            figure.text(left, place, title, va="top", size=10, weight="bold", color=colour)
            figure.text(left, place - 0.042, "\n".join(lines), va="top", size=9, color=INK, linespacing=1.15)
    figure.savefig(out)
    plt.close(figure)


def draw_round(out: Path) -> None:
    """Draw one round: what clients keep, what travels, what comes out."""
    figure = plt.figure(figsize=(10, 3.9), dpi=110)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 100), ylim=(0, 39))
    axis.set_axis_off()
    for number, name in enumerate(("hospital A", "hospital B", "hospital C")):
        low = 27 - 12.5 * number
        _box(axis, 1, low, 47, 10.5, "white", f"{name}: images and captions stay here", top=True)
        _box(axis, 3, low + 1.2, 12, 5, FROZEN, "image encoder\n(frozen)")
        _box(axis, 18.5, low + 1.2, 12, 5, TRAINED, "projector\n(trained)")
        _box(axis, 34, low + 1.2, 12, 5, FROZEN, "LLM\n(frozen)")
        for start in (15, 30.5):
            _arrow(axis, (start, low + 3.7), (start + 3.5, low + 3.7))
        _arrow(axis, (48.3, low + 6.3), (62.5, 24.9 - 4.6 * number), colour=OURS)
        _arrow(axis, (62.5, 23.3 - 4.6 * number), (48.3, low + 4.3), colour=QUIET)
    axis.text(58, 32.5, "up: projectors, no images, no captions", size=10, color=OURS)
    axis.text(58, 29.5, "down: the merged projector", size=10, color=QUIET)
    _box(axis, 63, 12.5, 14, 14, TRAINED, "server\nmerges the\nprojectors,\nround by round")
    _arrow(axis, (77.3, 19.5), (82.5, 19.5))
    _box(axis, 83, 12.5, 16, 14, "white", "a Hugging Face\nLLaVA checkpoint\nand a report of\nhow good it is")
    figure.savefig(out)
    plt.close(figure)


def _box(
    axis: Axes, left: float, low: float, width: float, height: float, colour: str, text: str, *, top: bool = False
) -> None:
    style = "round,pad=0,rounding_size=0.8"
    axis.add_patch(FancyBboxPatch((left, low), width, height, style, facecolor=colour, edgecolor=INK, linewidth=1))
    place = (left + 1.5, low + height - 1) if top else (left + width / 2, low + height / 2)
    across, along = ("left", "top") if top else ("center", "center")
    axis.text(*place, text, ha=across, va=along, size=9.5, color=INK)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], *, colour: str = INK) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, linewidth=1.2, color=colour))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder of a run with fedavg and shared-basis: python docs/draw_images.py runs/demo")
    draw_captions(fedcmp.load(sys.argv[1]), PLACE / "captions.png")
    draw_round(PLACE / "round.png")
