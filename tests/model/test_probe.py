"""An LLM is tried out before features are computed."""

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel

from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.model.probe import check_language


@pytest.fixture
def language(byte_level_llm):
    return LanguageModel(str(byte_level_llm))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_embedded_llm_passes(dtype):
    check_language(LanguageModel("world", dtype=dtype))


def test_one_of_another_kind_passes(language):
    check_language(language)


def test_an_overflow_in_float16_is_the_dtypes(byte_level_llm):
    language = LanguageModel(str(byte_level_llm), dtype="float16")
    language.model.gpt_neox.layers[0].mlp.dense_h_to_4h.bias.data.fill_(6e4)
    language.model.gpt_neox.layers[0].mlp.dense_4h_to_h.weight.data.fill_(1.0)
    with pytest.raises(UserError, match=r"^model\.dtype = 'float16': .* overflow .* set model\.dtype = \"bfloat16\""):
        check_language(language)


def test_damaged_weights_are_named(language):
    language.model.gpt_neox.layers[1].mlp.dense_h_to_4h.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"loss is not finite in float32 before anything is trained; its weights are"):
        check_language(language)


def test_a_model_that_sees_what_follows_is_refused(tmp_path, byte_level_llm):
    tokenizer = AutoTokenizer.from_pretrained(byte_level_llm)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), **sizes)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its tokens see those that follow"):
        check_language(LanguageModel(str(tmp_path)))
