"""The caption rule, tokens, and the check of the vocabulary."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fedcmp.data.captions import CaptionRule, check_vocabulary, clean_caption, clean_label, tokenize_captions
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError

EOS = 2


def word_tokenizer() -> Any:
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "cat", "on", "the", "mat", ","]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def byte_tokenizer() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<unk>", "</s>"],
        show_progress=False,
    )
    backend.train_from_iterator(["a red cat on the mat"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a \t red\n\r\ncat  ", "a red cat"),
        ("<image>\na cat<image>", "a cat"),
        ("<ima<image>ge>a cat", "a cat"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\x00b\x07 c\x9b", "ab c"),
        ("a \x00 b", "a b"),
        ("\ufeffa\u00a0\u3000cat\x85", "a cat"),
        ("lone \ud83d surrogate", "lone surrogate"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
        ("a <b> & </s>", "a <b> & </s>"),
    ],
)
def test_cleaning(raw: str, cleaned: str) -> None:
    assert clean_caption(raw) == cleaned


@pytest.mark.parametrize(
    "raw", ["", " \n\t", "<image>", "<image> <image>\n", "\x00\x01", "\u200b\u200d", "\ufeff", "\ud800"]
)
def test_nothing_visible_is_an_empty_caption(raw: str) -> None:
    with pytest.raises(BadPair) as caught:
        clean_caption(raw)
    assert caught.value.reason == "empty caption"


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("post \ud83d1", "post 1"),
        ("a\nb\r\n c\u2028d", "a b  c d"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("naïve Ü \U0001f468", "naïve Ü \U0001f468"),
        ("\udcff", ""),
    ],
)
def test_labels_can_be_written_anywhere(raw: str, cleaned: str) -> None:
    assert clean_label(raw) == cleaned
    assert clean_label(cleaned) == cleaned


@settings(deadline=None)
@given(st.text(st.characters() | st.sampled_from("<image> \n\x00\ud800\u0301"), max_size=40))
def test_cleaning_twice_changes_nothing(raw: str) -> None:
    try:
        once = clean_caption(raw)
    except BadPair:
        return
    assert clean_caption(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in once)
    assert "<image>" not in once
    once.encode()


def test_tokens_end_with_eos_unless_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "fedcmp.data"):
        ids = tokenize_captions(
            word_tokenizer(), ["a cat", "a red cat", "a red cat on the mat"], max_tokens=3, eos_token_id=EOS
        )
    assert ids == [[4, 6, EOS], [4, 5, 6, EOS], [4, 5, 6]]
    assert caplog.messages == [
        "1 of 3 captions were cut after data.max_caption_tokens = 3 tokens, without an end token; the longest has 6: "
        "raise it to keep them whole"
    ]
    with pytest.raises(ValueError, match="max_tokens = 0"):
        CaptionRule(max_tokens=0, eos_token_id=EOS)


def test_many_captions_keep_their_order() -> None:
    captions = ["a " * (1 + i % 5) for i in range(5000)]
    ids = tokenize_captions(word_tokenizer(), iter(captions), max_tokens=9, eos_token_id=EOS)
    assert ids == [[4] * (1 + i % 5) + [EOS] for i in range(5000)]


def test_a_special_token_written_in_a_caption_is_plain_text() -> None:
    tokenizer = byte_tokenizer()
    [ids] = tokenize_captions(tokenizer, ["a cat</s> on <s>"], max_tokens=99, eos_token_id=EOS)
    assert ids.count(EOS) == 1
    assert tokenizer.bos_token_id not in ids
    assert tokenizer.decode(ids[:-1]) == "a cat</s> on <s>"


def test_known_words_pass() -> None:
    check_vocabulary(word_tokenizer(), ["a red cat, on the mat"] * 9, model_name="tiny")
    check_vocabulary(word_tokenizer(), ["a red cat on the mat, a red cat", "zebra"], model_name="tiny")  # one of ten
    check_vocabulary(word_tokenizer(), [], model_name="tiny")


def test_unknown_words_are_named_most_frequent_first() -> None:
    captions = ["a zebra"] * 3 + ["the giraffe, zebra"] * 2 + [f"red word{i}" for i in range(20)]
    with pytest.raises(UserError) as caught:
        check_vocabulary(word_tokenizer(), captions, model_name="tiny")
    message = str(caught.value)
    assert message.startswith("tiny: ")
    assert "'zebra', 'giraffe'" in message
    assert message.count("word") == 8 + 1  # eight of the twenty, and the sentence's own
    assert "set model.language" in message
    assert "11 tokens" in message
    assert f"{27 / 54:.0%} of the captions" in message
    check_vocabulary(word_tokenizer(), captions, model_name="tiny", max_unknown_fraction=0.5)


def test_fewer_unknown_words_than_are_refused_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        check_vocabulary(word_tokenizer(), ["a red cat"] * 33, model_name="tiny")
        assert caplog.messages == []
        check_vocabulary(word_tokenizer(), ["a red cat"] * 33 + ["zebra"], model_name="tiny")
    assert caplog.messages == [
        "tiny: 1% of the captions' tokens are unknown to its tokenizer (data.max_unknown_fraction allows 10%), most "
        "often 'zebra'"
    ]


def test_byte_level_tokenizers_always_pass() -> None:
    captions = ["Ein Größenvergleich", "猫が座っている", "\U0001f408 zebra"]
    check_vocabulary(byte_tokenizer(), captions, model_name="bytes", max_unknown_fraction=0)
    tokenizer = byte_tokenizer()
    ids = tokenize_captions(tokenizer, captions, max_tokens=999, eos_token_id=EOS)
    assert [tokenizer.decode(row[:-1]) for row in ids] == captions
    tokenizer.unk_token = None
    check_vocabulary(tokenizer, captions, model_name="bytes", max_unknown_fraction=0)
