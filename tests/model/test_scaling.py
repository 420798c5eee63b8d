"""Images that would become too large before they are cropped."""

from types import SimpleNamespace

import pytest
from PIL import Image

from fedcmp.data.features import decoded
from fedcmp.data.images import BadImage
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.scaling import TooLargeAfterResizing, check_scaled, most_pixels
from fedcmp.model.vision import VisionEncoder
from tests.data.helpers import ListSource, encoded

EDGE_336 = SimpleNamespace(size={"shortest_edge": 336})


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1), (2, 9000), (30, 1600)])
def test_a_thin_image_is_refused(width, height):
    with pytest.raises(TooLargeAfterResizing, match=f"{width} x {height} pixels would become"):
        check_scaled(EDGE_336, width, height)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (200, 9_000), (20_000, 8_000), (1, 40)])
def test_a_panorama_is_not(width, height):
    check_scaled(EDGE_336, width, height)


@pytest.mark.parametrize(
    "processor",
    [
        SimpleNamespace(size={"height": 384, "width": 384}),
        SimpleNamespace(size=SimpleNamespace(shortest_edge=None, height=384, width=384)),
        SimpleNamespace(size={"shortest_edge": 336}, do_resize=False),
        SimpleNamespace(),
    ],
)
def test_whoever_does_not_scale_by_the_shorter_side_refuses_nothing(processor):
    check_scaled(processor, 1, 5000)


def test_a_small_encoder_takes_longer_ones():
    check_scaled(SimpleNamespace(size=SimpleNamespace(shortest_edge=48)), 10, 5000)
    assert most_pixels(1024) == 50 * 1024 * 1024


def test_it_is_a_bad_pair_with_both_sizes():
    encoder, dual = VisionEncoder("world", device="cpu"), DualEncoder("world", device="cpu")
    strip = Image.new("RGB", (1, 5000))
    source = ListSource([encoded(strip), encoded(Image.new("RGB", (48, 48)))])
    found = dict(decoded(source, [0, 1], max_pixels=10**6, resize=encoder.resized))
    assert isinstance(found[0], BadImage)
    assert str(found[0]) == (
        "too large after resizing: 1 x 5000 pixels would become 48 x 240,000: crop the image, or leave it out"
    )
    assert isinstance(found[1], Image.Image)
    with pytest.raises(TooLargeAfterResizing):
        dual.prepare([strip])
