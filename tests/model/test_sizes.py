"""Sizes from a config alone equal those of the loaded model."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel, LlamaConfig

from fedcmp.errors import UserError
from fedcmp.model.export import export_llava
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.sizes import NoConfigError, UnknownSizeError, language_size, vision_size
from fedcmp.model.vision import VisionEncoder
from tests.model.tiny_models import llm_folder, tower_folder


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("strategy", ["auto", "full"])
@pytest.mark.parametrize("layer", [-2, -1, 1])
def test_an_encoders_size_is_that_of_the_loaded_one(siglip_folder, layer, strategy):
    for name in ("world", str(siglip_folder)):
        encoder = VisionEncoder(name, layer=layer, strategy=strategy)
        size = vision_size(name, layer=layer, strategy=strategy)
        assert (size.tower, size.patches, size.width) == (count(encoder.model), encoder.num_patches, encoder.width)
        assert size.loaded == count(AutoModel.from_pretrained(encoder.location))


@pytest.mark.parametrize("strategy", ["auto", "full"])
@pytest.mark.parametrize("kind", ["clip", "dinov2", "dinov2-registers"])
def test_what_comes_before_the_patches_is_counted(tmp_path, kind, strategy):
    folder = str(tower_folder(tmp_path / "tower", kind))
    assert vision_size(folder, strategy=strategy).patches == VisionEncoder(folder, strategy=strategy).num_patches


def test_an_llms_size_is_that_of_the_loaded_one(byte_level_llm):
    for name in ("world", str(byte_level_llm)):
        language = LanguageModel(name)
        size = language_size(name)
        assert (size.parameters, size.width) == (count(language.model), language.width)
        assert size.vocabulary == language.model.config.vocab_size


def test_the_sizes_of_llava_7b_from_configs_alone(tmp_path):
    """6.74 billion parameters and 24 layers at 336 pixels, without a weight in the folder."""
    llama = LlamaConfig(hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32)
    llama.save_pretrained(tmp_path / "llm")
    clip = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336
    )
    clip.patch_size = 14
    clip.save_pretrained(tmp_path / "tower")
    language, vision = language_size(str(tmp_path / "llm")), vision_size(str(tmp_path / "tower"))
    assert language.parameters == 6_738_415_616
    assert (vision.patches, vision.width, vision.loaded) == (576, 1024, 303_507_456)
    one_block = 4 * (1024 * 1024 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
    assert vision.loaded - vision.tower == one_block  # the last one is never read


def test_tied_weights_count_once(tmp_path):
    config = LlamaConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    config.tie_word_embeddings = True
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        assert language_size(str(tmp_path)).parameters == count(AutoModelForCausalLM.from_config(config))
    config.tie_word_embeddings = False
    untied = tmp_path / "untied"
    config.save_pretrained(untied)
    assert language_size(str(untied)).parameters - language_size(str(tmp_path)).parameters == 50 * 8


def test_what_cannot_be_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        language_size("./nowhere")
    with pytest.raises(NoConfigError, match=r"model\.vision = 'nobody/nothing': not in the hub's cache"):
        vision_size("nobody/nothing")
    CLIPVisionModel(
        CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    ).config.save_pretrained(tmp_path)
    with pytest.raises(UnknownSizeError, match=r"model\.language"):
        language_size(str(tmp_path))


def test_towers_of_all_kinds_are_as_the_encoder_finds_them(tmp_path):
    """Several layers, DINOv2's crop, and the tower alone of a LLaVA folder."""
    clip, dino = tower_folder(tmp_path / "clip", "clip"), tower_folder(tmp_path / "dino", "dinov2")
    language = LanguageModel(str(llm_folder(tmp_path / "llm", "llama")))
    llava = export_llava(tmp_path / "llava", VisionEncoder(str(clip)), Projector(32, 32), language)
    for place, layer in ((clip, [-2, -1]), (dino, -2), (llava, -2)):
        size, encoder = vision_size(str(place), layer=layer), VisionEncoder(str(place), layer=layer)
        assert (size.patches, size.width) == (encoder.num_patches, encoder.width)
        assert size.tower == count(encoder.model)
