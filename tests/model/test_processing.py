"""Image processors and towers that do not fit together: one line when the encoder is opened."""

import json

import pytest
from safetensors.torch import load_file, save_file

from fedcmp.errors import UserError
from fedcmp.model.sizes import vision_size
from fedcmp.model.vision import VisionEncoder
from tests.model.tiny_models import tower_folder


@pytest.fixture
def tower(tmp_path):
    """(kind, processor's changes) -> a folder with a tower of 32 pixels."""

    def make(kind="clip", **changes):
        folder = tower_folder(tmp_path / kind, kind)
        path = folder / "preprocessor_config.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in (content | changes).items() if value is not None}))
        return folder

    return make


def refused(folder, **options):
    with pytest.raises(UserError) as caught:
        VisionEncoder(str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["clip", "siglip", "clip-vision"])
def test_another_size_than_the_towers(tower, kind):
    size = {"height": 48, "width": 48}
    told = refused(tower(kind, size=size if kind == "siglip" else {"shortest_edge": 48}, crop_size=size))
    assert "its image processor makes 48 x 48 pixels, its tower takes 32 x 32" in told


def test_a_tower_that_takes_any_size_keeps_its_processors(tower):
    assert VisionEncoder(str(tower("dinov2"))).grid == (4, 4)  # made for 48 pixels, its processor crops to 32


def test_a_processor_that_keeps_the_aspect_ratio(tower):
    told = refused(tower(do_center_crop=False))
    assert "keeps the aspect ratio: a square image becomes 32 x 32 pixels, one of 2:1 64 x 32" in told
    assert "set do_center_crop and crop_size" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_mean": [0.5, 0.5]}, "its image processor fails on an image of"),
        ({"image_std": [0.0, 0.2, 0.2]}, "numbers that are not finite; correct image_std"),
        ({"size": {"longest": 3}}, "image_processor|image processor|transformers cannot load it"),
    ],
)
def test_a_processor_with_wrong_numbers(tower, changes, told):
    message = refused(tower(**changes))
    assert any(part in message for part in told.split("|"))


@pytest.mark.parametrize("content", ["{", "[]", "null", "version https://git-lfs.github.com/spec/v1\n"])
def test_a_processors_damaged_file(tower, content):
    folder = tower()
    (folder / "preprocessor_config.json").write_text(content)
    refused(folder)


def test_layers_that_are_not_there_are_found_by_the_plan_too(tower):
    folder = str(tower())
    count = VisionEncoder(folder).config.num_hidden_layers
    for layer in (0, count + 1, -count - 1, [-1, -99]):
        with pytest.raises(UserError, match=r"model\.vision_layer = -?\d+: .* layers; use -"):
            vision_size(folder, layer=layer)


def change(folder, factor):
    """Multiply the tower's MLP weights."""
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if "vision" in name and "fc1.weight" in name:
            weights[name] = weights[name] * factor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_features_that_are_not_finite(tower):
    folder = tower()
    change(folder, float("nan"))
    assert "its features are not finite; its weights are damaged" in refused(folder)


def test_features_that_overflow_in_float16_blame_the_dtype(tower):
    folder = tower()
    change(folder, 1e5)
    assert refused(folder, dtype="float16").startswith("model.dtype = 'float16': numbers of model.vision = ")
    VisionEncoder(str(folder), dtype="float32")
