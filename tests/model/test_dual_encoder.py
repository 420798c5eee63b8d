import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from fedcmp.errors import UserError
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.vision import VisionEncoder
from fedcmp.world.scene import make_scenes

from .dual_encoders import clip_folder, naflex_folder, siglip2_folder

CAPTIONS = ["A Dog and a CAT, on a roof.", "a", "two crêpes in ZÜRICH " * 12, "cat"]


@pytest.fixture(scope="module")
def dual():
    return DualEncoder("world", VisionEncoder("world", device="cpu"), device="cpu")


@pytest.fixture(scope="module", params=[clip_folder, siglip2_folder, naflex_folder])
def saved(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("dual"))


def pictures(sizes=((40, 40), (64, 31), (17, 50))):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (high, wide, 3), np.uint8)) for wide, high in sizes]


def unit(features):
    return functional.normalize(features.pooler_output.detach().float(), dim=-1)


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


def test_the_embedded_worlds_vectors_keep_every_bit(dual):
    """Recorded studies were divided by them: closed by <eos>, padded on the right to the longest of the batch."""
    scenes = make_scenes(7, 0, 20)
    captions = [*scenes.captions, " ".join(scenes.captions)]
    rows = dual.tokenizer(captions, truncation=True, max_length=39)["input_ids"]
    rows = [[*row, 2] for row in rows]
    assert {row[0] for row in rows} == {1}
    length = max(map(len, rows))
    assert length == 40
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    with torch.no_grad():
        texts = unit(dual.model.get_text_features(input_ids=ids, attention_mask=mask))
        images = [Image.fromarray(pixels) for pixels in scenes.images]
        seen = unit(dual.model.get_image_features(pixel_values=dual.encoder.pixel_values(images)))
    assert torch.equal(dual.texts(captions), texts)
    assert torch.equal(dual.images(images), seen)


def test_without_a_vision_encoder_the_models_own_preprocessing_serves(dual):
    images = [Image.fromarray(pixels) for pixels in make_scenes(7, 0, 4).images]
    alone = DualEncoder("world", device="cpu")
    torch.testing.assert_close(alone.images(images), dual.images(images), rtol=0, atol=1e-5)
    assert torch.equal(alone.texts(["a photo ."]), dual.texts(["a photo ."]))


def test_captions_longer_than_the_text_encoder_are_cut(dual):
    long = " ".join(["a photo of a small red circle at the top left ."] * 20)
    assert torch.isfinite(dual.texts([long])).all()
    torch.testing.assert_close(dual.texts([long]), dual.texts([long + " a sketch ."]))


def test_captions_are_embedded_as_transformers_own_processor_pads_them(saved):
    dual, model = DualEncoder(str(saved), device="cpu"), AutoModel.from_pretrained(saved)
    captions = CAPTIONS
    if dual.model.config.model_type == "siglip":
        captions = [caption.lower() for caption in CAPTIONS]  # what its tokenizer's files ask for, see the next test
    inputs = AutoProcessor.from_pretrained(saved)(
        text=captions, padding="max_length", truncation=True, return_tensors="pt"
    )
    assert inputs["input_ids"].shape == (4, dual.longest)
    torch.testing.assert_close(dual.texts(CAPTIONS), unit(model.get_text_features(**inputs)), rtol=1e-5, atol=1e-6)


def test_a_caption_alone_or_in_a_batch_is_the_same(saved):
    dual = DualEncoder(str(saved), device="cpu")
    alone = torch.cat([dual.texts([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(alone, dual.texts(CAPTIONS), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_pictures_are_embedded_as_transformers_own_processor_makes_them(saved):
    dual, model = DualEncoder(str(saved), device="cpu"), AutoModel.from_pretrained(saved)
    images = pictures()
    inputs = AutoImageProcessor.from_pretrained(saved)(images=images, return_tensors="pt")
    expected = unit(model.get_image_features(**inputs))
    torch.testing.assert_close(dual.images(images), expected, rtol=1e-5, atol=1e-6)
    one_by_one = [dual.prepare([image]) for image in images]
    joined = {name: torch.cat([one[name] for one in one_by_one]) for name in one_by_one[0]}
    torch.testing.assert_close(dual.prepared_images(joined), expected, rtol=1e-5, atol=1e-6)
    assert dual.width == expected.shape[1]


def test_siglip_2_reads_small_letters_as_it_was_trained(tmp_path):
    """The Gemma tokenizer of its checkpoints of fixed resolution says do_lower_case and does not do it."""
    for name, lower in (("asks", True), ("does not ask", False)):
        (tmp_path / name).mkdir()
        dual = DualEncoder(str(siglip2_folder(tmp_path / name, lower=lower)), device="cpu")
        assert dual.tokenizer("A DOG")["input_ids"] != dual.tokenizer("a dog")["input_ids"]
        assert torch.equal(dual.texts(["A DOG"]), dual.texts(["a dog"])) == lower


def test_half_precision_is_near(tmp_path):
    folder = str(siglip2_folder(tmp_path))
    full, half = (DualEncoder(folder, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    torch.testing.assert_close(half.texts(CAPTIONS), full.texts(CAPTIONS), rtol=0, atol=0.03)
    assert half.images(pictures()).dtype == torch.float32
    assert half.fingerprint() != full.fingerprint()


def test_the_fingerprint_is_the_same_for_a_copy_and_after_use(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    first, second = DualEncoder(str(saved), device="cpu"), DualEncoder(str(copy), device="cpu")
    second.texts(CAPTIONS)  # sets the tokenizer's padding
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", lambda content: content["model"]["vocab"].update({"x": 325, "y": 324})),
        ("preprocessor_config.json", lambda content: content.update(resample=3)),
        ("config.json", lambda content: content["text_config"].update(layer_norm_eps=1e-3)),
        ("tokenizer_config.json", lambda content: content.update(do_lower_case=False)),
    ],
)
def test_whatever_changes_an_embedding_changes_the_fingerprint(tmp_path, file, change):
    before = DualEncoder(str(siglip2_folder(tmp_path)), device="cpu").fingerprint()
    content = json.loads((tmp_path / file).read_text())
    change(content)
    (tmp_path / file).write_text(json.dumps(content))
    assert DualEncoder(str(tmp_path), device="cpu").fingerprint() != before


def test_other_weights_have_another_fingerprint(tmp_path):
    prints = {DualEncoder(str(siglip2_folder(tmp_path, seed=seed)), device="cpu").fingerprint() for seed in (1, 2)}
    assert len(prints) == 2


def test_a_model_without_a_text_half_is_named(tmp_path):
    encoder = VisionEncoder("world")
    encoder.config.save_pretrained(tmp_path)
    AutoModel.from_config(encoder.config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model\.vision = .*no text half.*scenario\.kind = 'iid'"):
        DualEncoder(str(tmp_path), encoder)
    with pytest.raises(UserError, match=r"^--model = .*no text half.* use a CLIP or SigLIP model$"):
        DualEncoder(str(tmp_path), encoder, key="--model")


def test_a_missing_tokenizer_is_named(siglip_folder):
    with pytest.raises(UserError, match=r"^--model = .*transformers cannot load it") as caught:
        DualEncoder(str(siglip_folder), key="--model")
    assert "\n" not in str(caught.value)


def test_a_processor_of_another_size_is_found_before_pairs_are_embedded(tmp_path):
    folder = clip_folder(tmp_path)
    path = folder / "preprocessor_config.json"
    size = {"height": 48, "width": 48}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"shortest_edge": 48}, "crop_size": size}))
    with pytest.raises(UserError, match=r"^model\.vision = .*cannot embed an image and a caption \(.*48") as caught:
        _ = DualEncoder(str(folder), device="cpu").width
    assert "\n" not in str(caught.value)


def test_words_without_embeddings_are_named(tmp_path):
    folder = clip_folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["pneumothorax"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"pneumothorax.* but the model has embeddings for"):
        DualEncoder(str(folder), device="cpu")


def test_embeddings_that_are_not_finite_are_found(tmp_path):
    dual = DualEncoder(str(clip_folder(tmp_path)), device="cpu")
    dual.model.visual_projection.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="its embeddings are not finite in float32"):
        _ = dual.width
