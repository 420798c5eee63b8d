"""The world's word-level tokenizer: a closed vocabulary, one token a word, as an ordinary transformers tokenizer."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from fedcmp.world import words

PAD, BOS, EOS, UNKNOWN, IMAGE, SEPARATOR, EMPTY = "<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<sep>", "<empty>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNKNOWN, IMAGE, SEPARATOR, EMPTY)
_GRAMMAR = """
    a an of in this shows with and at the left right above below is are there it does say which what how many
    color kind picture pattern everywhere bar bars chart short tall taller tallest word number text written
    first second third digit face feel wear glasses no yes or arrow arrows shapes question answer caption describe
    image . , : ?
"""


def vocabulary() -> list[str]:
    """Special tokens, then every word of the world in alphabetical order; the position is the token's id."""
    phrases = [
        *words.COLORS,
        *words.SHAPES,
        *words.PLURALS.values(),
        *words.SIZES,
        *words.ROWS,
        *words.COLUMNS,
        *words.DIRECTIONS,
        *words.STYLES,
        *words.STYLE_PHRASES.values(),
        *words.MOODS,
        *words.TEXTURES,
        *words.NUMBERS,
        *words.WRITTEN_WORDS,
        *words.LETTERS,
        *words.DIGITS,
        _GRAMMAR,
    ]
    return [*SPECIAL_TOKENS, *sorted({word for phrase in phrases for word in phrase.split()})]


def world_tokenizer() -> PreTrainedTokenizerFast:
    """Words split at white space and punctuation; `<bos>` in front; unknown words become `<unk>`."""
    ids = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        sep_token=SEPARATOR,
        extra_special_tokens={"image_token": IMAGE, "empty_token": EMPTY},
        padding_side="left",
        model_max_length=256,
    )
