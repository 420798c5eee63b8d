"""The sheet of docs/scenarios.md shows every family in every style."""

from PIL import Image

from docs.draw_untouched import draw, one_of_each
from fedcmp.world.untouched import UNTOUCHED


def test_it_shows_every_family_in_every_style(tmp_path):
    scenes = one_of_each()
    shown = list(zip(scenes.families, scenes.style_names, strict=True))
    assert shown == [(family, style) for family in UNTOUCHED.families for style in UNTOUCHED.styles]
    draw(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 400
