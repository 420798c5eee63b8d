"""The images of README.md are drawn from a run."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "draw_images.py"))


def test_both_images_are_drawn(tmp_path):
    samples = tmp_path / "prepared" / "samples"
    samples.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (48, 48), (20 * number, 0, 0)).save(samples / f"{number}.png")
    asked = []

    def caption(path, method):
        asked.append((path.stem, method))
        return "red " * 30

    run = SimpleNamespace(folder=tmp_path, caption=caption)
    TOOL["draw_captions"](run, tmp_path / "captions.png")
    TOOL["draw_round"](tmp_path / "round.png")
    assert asked[:3] == [("0", "initial"), ("0", "fedavg"), ("0", "shared-basis")]
    assert [stem for stem, _ in asked[::3]] == ["0", "1", "2", "3"]  # by number, not as text
    for name in ("captions.png", "round.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width == 1100
            assert len(image.convert("L").resize((64, 32)).getcolors(256)) > 5
