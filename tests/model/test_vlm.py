import numpy as np
import pytest
import torch
from PIL import Image

from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.world.scene import make_scenes


@pytest.fixture(scope="module")
def vlm():
    encoder, language = VisionEncoder("world", device="cpu"), LanguageModel("world", device="cpu")
    projector = Projector(encoder.width, language.width, seed=4)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.mul_(3)  # louder visual tokens: answers that depend on the picture
    return VLM(language, projector, encoder)


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(pixels) for pixels in make_scenes(55, 0, 6).images]


def batch(language, captions):
    rows = [[*language.tokenizer(c, add_special_tokens=False)["input_ids"], language.end] for c in captions]
    length = max(map(len, rows))
    ids = torch.tensor([row + [language.pad] * (length - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def test_losses_follow_the_projector_and_the_blind_ones_do_not(vlm, pictures):
    ids, lengths = batch(vlm.language, ["a photo .", "a photo of a small red circle ."])
    features = vlm.encoder.encode(pictures[:2])
    seeing, blind = vlm.caption_losses(features, ids, lengths), vlm.caption_losses(None, ids, lengths)
    assert seeing.shape == blind.shape == (int(lengths.sum()),)
    torch.testing.assert_close(seeing, vlm.language.caption_losses(vlm.trainable(features), ids, lengths))
    assert not torch.allclose(seeing, blind)
    seeing.mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in vlm.trainable.parameters())
    vlm.trainable.zero_grad()


def test_half_precision_features_are_projected_in_float32(vlm, pictures):
    features = vlm.encoder.encode(pictures[:2]).half()
    tokens = vlm.visual_tokens(features)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens, vlm.trainable(features.float()))


def test_alignment_errors_equal_the_formula(vlm, pictures):
    """1 - cos(mean visual token, mean caption embedding), in NumPy, a pair at a time."""
    ids, lengths = batch(vlm.language, ["a photo .", "a photo of a small red circle at the top left .", "a sketch ."])
    features = vlm.encoder.encode(pictures[:3])
    table = vlm.language.embedding.weight.numpy().astype(np.float64)
    expected = []
    for tokens, row, length in zip(vlm.visual_tokens(features).detach().numpy(), ids, lengths, strict=True):
        image, text = tokens.astype(np.float64).mean(0), table[row[:length].numpy()].mean(0)
        expected.append(1 - image @ text / (np.linalg.norm(image) * np.linalg.norm(text)))
    np.testing.assert_allclose(vlm.alignment_errors(features, ids, lengths).numpy(), expected, atol=1e-5)


def test_answers_come_in_the_order_of_the_pictures_whatever_the_prompts_lengths(vlm, pictures):
    prompts = ["", "question : what color is the text ? answer :", "a photo", "", "question : how many ? answer :", "a"]
    together = vlm.answer(pictures, prompts, max_new_tokens=6)
    alone = [vlm.answer([p], [text], max_new_tokens=6)[0] for p, text in zip(pictures, prompts, strict=True)]
    assert together == alone
    assert len(set(together)) > 1


def test_answers_need_an_encoder_and_a_prompt_a_picture(vlm, pictures):
    with pytest.raises(ValueError, match="without an encoder"):
        VLM(vlm.language, vlm.trainable).answer(pictures, [""] * 6)
    with pytest.raises(ValueError, match="6 images, 1 prompts"):
        vlm.answer(pictures, [""])
