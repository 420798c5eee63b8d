"""The line of the toy world: where it was used, and only there."""

import pytest

from fedcmp.report.toy import TOY_WORLD, toy_line

OWN_DATA = {"data": {"format": "llava"}}
UNTOUCHED = {"data": {"format": "world", "world": "untouched"}}
NEW = " of families and styles that neither the frozen models nor any tuning saw"
OWN_MODELS = {"model": {"vision": "openai/clip", "language": "a/llm"}}


@pytest.mark.parametrize(
    ("recipes", "line"),
    [
        ([{"run": {}}], TOY_WORLD),
        ([{"data": {"format": "world"}, "model": {"vision": "world", "language": "world"}}], TOY_WORLD),
        ([OWN_DATA | OWN_MODELS], ""),
        ([OWN_DATA], "Toy models: frozen models of 4 MB."),
        ([OWN_MODELS], "Toy world: drawn scenes of 48 x 48 pixels."),
        ([{"run": {}}, OWN_DATA | OWN_MODELS], f"Some of these runs: t{TOY_WORLD[1:]}"),
        ([UNTOUCHED], TOY_WORLD.replace("pixels", f"pixels{NEW}")),
        ([UNTOUCHED | OWN_MODELS], f"Toy world: drawn scenes of 48 x 48 pixels{NEW}."),
        ([{"run": {}}, UNTOUCHED], TOY_WORLD),
        ([{}], ""),
        ([], ""),
    ],
)
def test_it_says_what_of_the_runs_is_a_toy(recipes, line):
    assert toy_line(recipes) == line


def test_the_pairs_of_a_deployments_sites_are_no_toy():
    recipe = {"data": {"format": "world"}, "deployment": {"sites": ["north"]}}
    assert "scenes" not in toy_line([recipe])
    assert "scenes" in toy_line([recipe | {"data": {"format": "world", "num_pairs": 100}}])
