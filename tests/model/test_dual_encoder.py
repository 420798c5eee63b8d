import pytest
import torch
from PIL import Image
from transformers import AutoModel

from fedcmp.errors import UserError
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.vision import VisionEncoder
from fedcmp.world.scene import make_scenes


@pytest.fixture(scope="module")
def dual():
    return DualEncoder("world", VisionEncoder("world", device="cpu"), device="cpu")


def test_captions_lie_nearer_to_their_own_pictures(dual):
    """Batches are padded, so this also holds that padding and row order do no harm."""
    scenes = make_scenes(31, 0, 48)
    images = dual.images([Image.fromarray(pixels) for pixels in scenes.images])
    texts = dual.texts(scenes.captions)
    assert images.shape == texts.shape == (48, 64)
    for embeddings in (images, texts):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(48))
    similar = images @ texts.T
    own = similar.diagonal()
    others = (similar.sum(1) - own) / 47
    assert (own > others).float().mean() > 0.9


def test_embeddings_are_the_librarys_and_do_not_depend_on_the_batch(dual):
    captions = ["a photo .", "a photo of a small red circle at the top left ."]
    together = dual.texts(captions)
    model = AutoModel.from_pretrained(VisionEncoder("world").location, dtype=torch.float32)
    for caption, embedding in zip(captions, together, strict=True):
        torch.testing.assert_close(dual.texts([caption])[0], embedding, rtol=1e-4, atol=1e-5)
        ids = dual.tokenizer(caption)["input_ids"]
        ids = torch.tensor([ids if ids[-1] == dual.tokenizer.eos_token_id else [*ids, dual.tokenizer.eos_token_id]])
        expected = model.get_text_features(input_ids=ids).pooler_output[0].detach()
        torch.testing.assert_close(embedding, expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_captions_longer_than_the_text_encoder_are_cut(dual):
    long = " ".join(["a photo of a small red circle at the top left ."] * 20)
    assert torch.isfinite(dual.texts([long])).all()
    torch.testing.assert_close(dual.texts([long]), dual.texts([long + " a sketch ."]))


def test_a_model_without_a_text_half_is_named(tmp_path):
    encoder = VisionEncoder("world")
    encoder.config.save_pretrained(tmp_path)
    AutoModel.from_config(encoder.config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model\.vision = .*no text half.*scenario\.kind = 'iid'"):
        DualEncoder(str(tmp_path), encoder)
