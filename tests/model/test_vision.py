import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from fedcmp.errors import UserError
from fedcmp.model.vision import VisionEncoder
from fedcmp.world.scene import make_scenes


def pictures(count, side=48):
    return [Image.fromarray(pixels).resize((side, side)) for pixels in make_scenes(9, 0, count).images]


@pytest.fixture(scope="module")
def encoder():
    return VisionEncoder("world")


@pytest.mark.parametrize("layer", [-1, -2, -3, 2])
def test_features_are_the_hidden_states_that_llava_reads(layer):
    encoder = VisionEncoder("world", layer=layer)
    whole = AutoModel.from_pretrained(encoder.location, dtype=torch.float32)
    pixels = encoder.pixel_values(pictures(3))
    expected = whole.vision_model(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]
    torch.testing.assert_close(encoder.encode(pictures(3)), expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, -2])
def test_siglip_has_no_class_token_and_keeps_all_patches(siglip_folder, layer):
    encoder = VisionEncoder(str(siglip_folder), layer=layer)
    assert (encoder.strategy, encoder.num_patches, encoder.has_class_token) == ("full", 16, False)
    whole = AutoModel.from_pretrained(siglip_folder, dtype=torch.float32)
    pixels = encoder.pixel_values(pictures(2, side=100))
    expected = whole.vision_model(pixels, output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(encoder.encode(pictures(2, side=100)), expected.detach(), rtol=1e-5, atol=1e-5)


def test_full_strategy_keeps_the_class_token():
    assert VisionEncoder("world", strategy="full").encode(pictures(1)).shape == (1, 10, 128)


def test_default_strategy_needs_a_class_token(siglip_folder):
    with pytest.raises(UserError, match="no class token"):
        VisionEncoder(str(siglip_folder), strategy="default")


def test_the_fast_preprocessing_equals_the_librarys(encoder):
    images = pictures(5)
    assert encoder._fast is not None
    expected = encoder.processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.pixel_values(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 48), (100, 20), (640, 480), (31, 333)])
def test_pictures_resized_apart_are_those_of_the_librarys_processor(encoder, size):
    """So that several threads may resize them."""
    noise = np.random.RandomState(1).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    expected = encoder.processor(images=[image], return_tensors="pt")["pixel_values"]
    resized = encoder.resized(image)
    assert resized.size == (48, 48)
    torch.testing.assert_close(encoder.pixel_values([resized]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder.pixel_values([image]), expected, rtol=0, atol=1e-5)


def test_a_processor_that_does_something_else_with_other_sizes_keeps_its_way(encoder):
    own = encoder.processor

    class TurnsLargePictures:
        """Only where it also rescales: what it makes apart is then not what it makes in one."""

        rescale_factor, image_mean, image_std = own.rescale_factor, own.image_mean, own.image_std
        do_rescale = do_normalize = True

        def __call__(self, *, images, do_rescale=True, **named):
            turned = [image.rotate(180) if do_rescale and image.size != (48, 48) else image for image in images]
            return own(images=turned, do_rescale=do_rescale, **named)

    fast = type(encoder._fast).proven_equal(TurnsLargePictures(), 48, torch.device("cpu"))
    large = Image.new("RGB", (100, 70))
    assert fast.resized(large) is large


def test_pictures_of_any_size_come_in(encoder):
    images = [Image.fromarray(np.full((h, w, 3), 90, np.uint8)) for h, w in ((20, 100), (480, 640), (48, 48))]
    assert encoder.encode(images).shape == (3, 9, 128)


def test_fingerprint_follows_layer_and_strategy(encoder):
    same = VisionEncoder("world")
    others = [VisionEncoder("world", layer=-3), VisionEncoder("world", strategy="full")]
    assert same.fingerprint() == encoder.fingerprint()
    assert len({encoder.fingerprint(), *(other.fingerprint() for other in others)}) == 3


def test_what_cannot_be_loaded_is_named(tmp_path, byte_level_llm):
    with pytest.raises(UserError, match=r"model\.vision = .*no such folder"):
        VisionEncoder("./nothing-here")
    with pytest.raises(UserError, match=r"config\.json"):
        VisionEncoder(str(tmp_path))
    with pytest.raises(UserError, match="no image encoder"):
        VisionEncoder(str(byte_level_llm))
    with pytest.raises(UserError, match=r"vision_layer = -9"):
        VisionEncoder("world", layer=-9)
    with pytest.raises(UserError, match=r"device = 'tpu9'"):
        VisionEncoder("world", device="tpu9")
