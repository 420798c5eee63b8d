"""How an LLM's text is written: its tokenizer, sizes and sequence format, without its weights.

A sequence is  [<bos>] visual tokens, separator, caption, <eos>  (LLaVA's "plain" pretraining format), or the same in
the LLM's own chat template (prompts.py).
"""

from typing import Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fedcmp.errors import UserError
from fedcmp.model.llava_folder import is_llava, load_language_half
from fedcmp.model.locations import load, load_model, resolve
from fedcmp.model.prompts import (
    IMAGE_TOKEN,
    INSTRUCTION,
    BehindImage,
    ChatFormat,
    check_embeddings,
    plain_template,
)

KEY = "model.language"
PromptFormat = Literal["plain", "chat"]


class TextFormat:
    """An LLM's tokenizer, sizes and sequence format, without its weights.

    Args:
        name: "world", a folder or a hub name of a causal LM, or a folder of a Hugging Face LLaVA, whose LLM is meant.
        separator: text between the visual tokens and the caption; None: the tokenizer's sep token if it has one (but
            not in a chat), else a line break, as LLaVA.
        prompt: "plain" or "chat", see prompts.py.
        instruction: what a chat asks for where a caption is wanted.

    Attributes:
        name: as given; `location` is the folder or hub name behind it.
        tokenizer: of the LLM.
        end: id of the end-of-sequence token, in a chat of what ends a turn; `pad` is that of the padding, the
            end-of-sequence token where there is none.
        separator: as text; `separator_ids` are its tokens.
        start_ids: `<bos>` where the tokenizer begins a text with it, else nothing; in a chat also what comes before the
            image.
        caption_prompt_ids: what follows the separator where a caption is wanted; nothing in the plain format.
        reader: tokenizer for what follows the separator.
        width: D, of the input embeddings.
        max_positions: longest sequence the LLM was made for; None if its config does not say.

    Raises:
        UserError: a config or tokenizer that cannot be loaded, a tokenizer without an end-of-sequence token, a
            config without a width, an LLM that reads more than embeddings, or no chat template where one is wanted;
            a separator without tokens, or tokens that the LLM has no embeddings for.
    """

    def __init__(
        self,
        name: str,
        *,
        separator: str | None = None,
        prompt: PromptFormat = "plain",
        instruction: str = INSTRUCTION,
    ) -> None:
        self.name, self.location = name, resolve(name, "language", KEY)
        whole = load(AutoConfig, self.location, KEY)
        self.in_llava = is_llava(whole, self.location, KEY)
        config = whole.get_text_config()
        _check_reads_embeddings(name, whole, config, seeing=hasattr(whole, "vision_config") and not self.in_llava)
        width = getattr(config, "word_embed_proj_dim", None) or getattr(config, "hidden_size", None)  # OPT has both
        if width is None:
            raise UserError(
                f"{KEY} = {name!r}: the config of a {config.model_type} has no hidden_size; use a causal LM"
            )
        self.width = int(width)
        positions = getattr(config, "max_position_embeddings", None)
        self.max_positions = None if positions is None else int(positions)
        self.tokenizer: PreTrainedTokenizerFast = load(AutoTokenizer, self.location, KEY)
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{KEY} = {name!r}: its tokenizer has no end-of-sequence token; set eos_token in its files")
        self.end = int(self.tokenizer.eos_token_id)
        self._rows = None if getattr(config, "vocab_size", None) is None else int(config.vocab_size)
        pad = self.tokenizer.pad_token_id
        # one beyond the embeddings, as [PAD] often is: padding is never looked at, so any token will do
        self.pad = self.end if pad is None or (self._rows is not None and pad >= self._rows) else int(pad)
        own = None if prompt == "chat" else self.tokenizer.sep_token
        self.separator = separator if separator is not None else (own or "\n")
        place = f"{KEY} = {name!r}"
        self.reader = BehindImage(self.tokenizer, self.separator, place, rows=self._rows)
        self.separator_ids: list[int] = self.reader.separator_ids
        with_special = self.tokenizer("", add_special_tokens=True)["input_ids"]
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and with_special[:1] == [bos]
        self.start_ids: list[int] = [bos] if adds_bos else []
        self.caption_prompt_ids: list[int] = []
        self.prompt, self.instruction, self._chat = prompt, instruction, None
        if prompt == "chat":
            self._chat = ChatFormat(self.tokenizer, self.separator, f"{KEY} = {name!r}", adds_bos=adds_bos)
            before: list[int] = self.tokenizer(self._chat.before, add_special_tokens=False)["input_ids"]
            self.start_ids = before if before[:1] == [bos] else self.start_ids + before
            self.end = self.end if self._chat.end is None else self._chat.end
            self.caption_prompt_ids = self.prompt_ids("")
        if not self.separator_ids:
            raise UserError(
                f"model.separator = {self.separator!r}: is no token of {self.name!r}; give a text of at least one, or "
                "leave it out"
            )
        used = [*self.start_ids, *self.separator_ids, *self.caption_prompt_ids, self.end]
        check_embeddings(self.tokenizer, self._rows, place, used)

    def asked(self, question: str) -> str:
        """Return a question with what stands between it and its answer; an empty one asks for the caption."""
        return question if self._chat is None else (question or self.instruction) + self._chat.behind

    def prompt_ids(self, question: str) -> list[int]:
        """Return tokens between the separator and the answer; of an empty question: the caption's prompt."""
        text = self.asked(question)
        return self.reader(text)["input_ids"] if text else []

    def prompt_text(self, question: str) -> str:
        """Return the text to hand to the exported processor, so that it sees what the projector was trained with."""
        before = "" if self._chat is None else self._chat.before
        return f"{before}{IMAGE_TOKEN}{self.separator}{self.asked(question)}"

    def load_weights(self, dtype: torch.dtype) -> PreTrainedModel:
        """Return the causal LM as its checkpoint has it, on the CPU.

        Raises:
            UserError: it cannot be loaded, or lacks weights.
        """
        if self.in_llava:
            return load_language_half(self.location, KEY, dtype=dtype)
        model: PreTrainedModel = load_model(AutoModelForCausalLM, self.location, KEY, dtype=dtype)
        return model

    def chat_template(self) -> str:
        """Return the exported processor's template: it renders a conversation in the format that was trained."""
        return plain_template(self.separator) if self._chat is None else self._chat.exported(self.separator)


def _check_reads_embeddings(name: str, whole: PreTrainedConfig, text: PreTrainedConfig, *, seeing: bool) -> None:
    if getattr(text, "hidden_size_per_layer_input", None):
        raise UserError(
            f"{KEY} = {name!r}: a {text.model_type} looks up token ids again in every layer, and visual tokens have "
            "none; use another LLM"
        )
    if seeing:
        raise UserError(
            f"{KEY} = {name!r}: a {whole.model_type} model sees images already; use a causal LM of text alone"
        )


def check_length(text_format: TextFormat, *, num_patches: int, max_caption_tokens: int, vision_name: str) -> None:
    """Check that the longest training sequence fits the LLM.

    Args:
        text_format: of the LLM.
        num_patches: P, visual tokens of an image.
        max_caption_tokens: longest caption, without its `<eos>`.
        vision_name: model.vision, for the error.

    Raises:
        UserError: [<bos>] P visual tokens, separator, caption and <eos> are more than the LLM has positions.
    """
    if text_format.max_positions is None:
        return
    around = [*text_format.start_ids, *text_format.separator_ids, *text_format.caption_prompt_ids]
    fixed = len(around) + num_patches + 1
    room = text_format.max_positions - fixed
    if max_caption_tokens <= room:
        return
    shorter = f"set data.max_caption_tokens to {room} or less, or " if room > 0 else ""
    raise UserError(
        f"{KEY} = {text_format.name!r}: has {text_format.max_positions} positions, but {num_patches} visual tokens of "
        f"model.vision = {vision_name!r} and data.max_caption_tokens = {max_caption_tokens} need "
        f"{fixed + max_caption_tokens} with the tokens around them; {shorter}give a model.language with more positions "
        "or a model.vision with fewer patches"
    )
