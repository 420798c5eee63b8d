import shutil

import pytest
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.model.text_format import TextFormat, check_length


@pytest.fixture(scope="module")
def world():
    return LanguageModel("world")


def test_formats(world, byte_level_llm):
    assert world.start_ids == [world.tokenizer.bos_token_id]
    assert world.tokenizer.convert_ids_to_tokens(world.separator_ids) == ["<sep>"]
    other = LanguageModel(str(byte_level_llm))
    assert other.start_ids == []
    assert other.tokenizer.decode(other.separator_ids) == "\n"
    assert other.pad == other.end


@pytest.mark.parametrize("which", ["world", "byte-level"])
def test_the_format_alone_says_what_the_whole_model_says(which, world, byte_level_llm):
    language = world if which == "world" else LanguageModel(str(byte_level_llm))
    alone = TextFormat(language.name)
    assert alone.width == language.embedding.weight.shape[1]
    assert alone.max_positions == language.model.config.max_position_embeddings == 256
    assert alone.tokenizer.get_vocab() == language.tokenizer.get_vocab()
    for name in ("name", "location", "end", "pad", "separator", "separator_ids", "start_ids", "width"):
        assert getattr(alone, name) == getattr(language, name)
    assert TextFormat(language.name, separator="").separator_ids == []


def test_the_width_is_that_of_the_embeddings_where_the_hidden_states_are_wider(tmp_path, byte_level_llm):
    shutil.copytree(byte_level_llm, tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(byte_level_llm)
    small = {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), word_embed_proj_dim=16, **small)).save_pretrained(tmp_path)
    language = LanguageModel(str(tmp_path))
    assert language.width == language.embedding.weight.shape[1] == 16


def test_a_config_without_a_width_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "timm_backbone"}')
    with pytest.raises(UserError, match=r"model\.language = .*timm_backbone has no hidden_size"):
        TextFormat(str(tmp_path))


def test_a_sequence_longer_than_the_llm_is_refused_before_training(world):
    room = 256 - 1 - 100 - 1 - 1  # <bos>, patches, <sep>, <eos>
    check_length(world, num_patches=100, max_caption_tokens=room, vision_name="eyes")
    with pytest.raises(UserError, match=f"has 256 positions.* set data.max_caption_tokens to {room} or less") as caught:
        check_length(world, num_patches=100, max_caption_tokens=room + 1, vision_name="eyes")
    assert "model.language = 'world'" in str(caught.value)
    assert "model.vision = 'eyes'" in str(caught.value)
    with pytest.raises(UserError, match=r"576 visual tokens.*need 580 with the tokens around them; give a model"):
        check_length(world, num_patches=576, max_caption_tokens=1, vision_name="eyes")
