"""Draw docs/images/untouched.png: one image per content family and style of the untouched world.

python docs/draw_untouched.py
"""

from itertools import count
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from PIL import Image

from fedcmp.world.scene import Scenes, scenes_at
from fedcmp.world.untouched import UNTOUCHED

PLACE = Path(__file__).resolve().parent / "images" / "untouched.png"
_LOOKED_AT = 256


def one_of_each() -> Scenes:
    """Return the first validation scene of every family in every style, family by family."""
    found: dict[tuple[str, str], int] = {}
    wanted = [(family, style) for family in UNTOUCHED.families for style in UNTOUCHED.styles]
    for start in count(0, _LOOKED_AT):
        indices = range(start, start + _LOOKED_AT)
        scenes = scenes_at(UNTOUCHED.streams["validation"], indices, images=False, world=UNTOUCHED)
        for index, pair in zip(indices, zip(scenes.families, scenes.style_names, strict=True), strict=True):
            found.setdefault(pair, index)
        if len(found) == len(wanted):
            break
    return scenes_at(UNTOUCHED.streams["validation"], [found[pair] for pair in wanted], world=UNTOUCHED)


def draw(out: Path) -> None:
    """Draw families as rows and styles as columns."""
    scenes, rows, columns = one_of_each(), UNTOUCHED.families, UNTOUCHED.styles
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(6.4, 9.2), dpi=80)
    for place, axis in enumerate(axes.flat):
        row, column = divmod(place, len(columns))
        axis.imshow(scenes.images[place], interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_title(columns[column] if row == 0 else "", size=11)
        axis.set_ylabel(rows[row] if column == 0 else "", size=11)
    figure.subplots_adjust(left=0.07, right=0.995, bottom=0.005, top=0.97, wspace=0.04, hspace=0.04)
    figure.savefig(out)
    plt.close(figure)
    with Image.open(out) as drawn:
        few = drawn.convert("RGB").quantize(128)  # a third of the size
    few.save(out, optimize=True)


if __name__ == "__main__":
    draw(PLACE)
