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


@pytest.mark.parametrize("separator", ["", "<image>"])
def test_a_separator_is_at_least_one_token(byte_level_llm, separator):
    with pytest.raises(UserError, match=r"^model\."):
        TextFormat(str(byte_level_llm), separator=separator)


@pytest.fixture
def changed_tokenizer(tmp_path, byte_level_llm):
    """(what to do with the tokenizer) -> the LLM's folder with it; the LLM has as many embeddings as before."""

    def change(act):
        folder = shutil.copytree(byte_level_llm, tmp_path / "llm")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        act(tokenizer)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return change


def test_a_padding_token_alone_beyond_the_embeddings_is_not_needed(changed_tokenizer):
    text = TextFormat(changed_tokenizer(lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[PAD]"})))
    assert text.tokenizer.pad_token_id >= text._rows
    assert text.pad == text.end


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda tokenizer: tokenizer.add_tokens(["pneumothorax"]), "pneumothorax"),
        (lambda tokenizer: tokenizer.add_special_tokens({"eos_token": "<end>"}), "<end>"),
        (lambda tokenizer: tokenizer.add_special_tokens({"sep_token": "<sep>"}), "<sep>"),
    ],
    ids=["a word", "end token", "separator"],
)
def test_tokens_beyond_the_embeddings_are_named(changed_tokenizer, act, word):
    with pytest.raises(
        UserError, match=rf"'{word}' is token \d+ of its tokenizer, .* embeddings for \d+ tokens"
    ) as caught:
        TextFormat(changed_tokenizer(act))
    assert str(caught.value).startswith("model.language = ")
    assert "\n" not in str(caught.value)


def test_a_special_token_that_is_never_written_is_harmless_until_a_question_spells_it(changed_tokenizer):
    folder = changed_tokenizer(lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]}))
    text = TextFormat(folder)
    assert text.prompt_ids("what is this?")
    with pytest.raises(UserError, match="'<x>' is token"):
        text.prompt_ids("what is <x>?")


def test_a_tokenizer_without_an_end_is_named(changed_tokenizer):
    def forget(tokenizer):
        tokenizer.eos_token = None

    with pytest.raises(UserError, match="no end-of-sequence token"):
        TextFormat(changed_tokenizer(forget))


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
