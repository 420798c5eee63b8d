"""Prompt formats: what stands before an image, between it and the text, and behind the text.

    plain   [<bos>] image separator [question] caption <eos>                       LLaVA's pretraining format
    chat    the tokenizer's own chat template around one turn of the user, `image separator instruction`, and the
            beginning of an answer; then the caption and what ends a turn

Text behind an image is read as the exported processor reads it: behind the special token `<image>`, not as the
beginning of a text, where some tokenizers put a space of their own.
"""

import copy
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import AddedToken

from fedcmp.errors import UserError

IMAGE_TOKEN = "<image>"
INSTRUCTION = "Provide a brief description of the given image."  # one of those that LLaVA was pretrained with
_ANSWER = "fedcmp-answer"
_OWN = "{#- the LLM's own template -#}"  # ends what an export puts in front of it
_DAY = {"%a": "Wed", "%A": "Wednesday", "%b": "Jan", "%B": "January", "%d": "01", "%m": "01", "%y": "25", "%Y": "2025"}


class BehindImage:
    """A tokenizer for what follows an image and the separator; called as a tokenizer is.

    Args:
        tokenizer: of the LLM; left as it is.
        separator: between the image and the text.
        place: the recipe key and value, for errors.
        rows: tokens that the LLM has embeddings for, ids 0 to rows - 1; None: any.
    """

    def __init__(self, tokenizer: Any, separator: str, place: str = "", *, rows: int | None = None) -> None:
        if not has_image_token(tokenizer):
            tokenizer = copy.deepcopy(tokenizer)
            add_image_token(tokenizer)
        self._tokenizer, self._separator = tokenizer, separator
        self._place, self._rows = place, rows
        self.separator_ids = self._behind(separator)

    def __call__(self, text: str, **_options: Any) -> dict[str, list[int]]:
        """Return token ids of the text; special tokens that are spelled out in it are read, none are added.

        Raises:
            UserError: a special token that the LLM has no embedding for.
        """
        ids, count = self._behind(self._separator + text), len(self.separator_ids)
        if ids[:count] == self.separator_ids:
            return {"input_ids": ids[count:]}
        return {"input_ids": self._behind(text)}  # separator and text share a token

    def _behind(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(IMAGE_TOKEN + text, add_special_tokens=False)["input_ids"]
        place = ids.index(self._tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
        for number in ids[place + 1 :]:
            if self._rows is not None and number >= self._rows:
                word = str(self._tokenizer.convert_ids_to_tokens(number))
                raise beyond_embeddings(self._place, word, number, self._rows)
        return ids[place + 1 :]


def check_embeddings(tokenizer: Any, rows: int | None, place: str, used: Sequence[int] = ()) -> None:
    """Refuse a tokenizer with tokens that its model has no embeddings for, where a text may hold them.

    Args:
        tokenizer: of transformers.
        rows: embeddings of the model; None: not known, and all is accepted.
        place: the recipe key and value, for the error.
        used: ids of special tokens that are written; others never are.

    Raises:
        UserError: names the first such token.
    """
    if rows is None:
        return
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    beyond = {n: word for word, n in tokenizer.get_vocab().items() if n >= rows and word not in special}
    beyond |= {n: str(tokenizer.convert_ids_to_tokens(n)) for n in used if n >= rows}
    if beyond:
        raise beyond_embeddings(place, beyond[min(beyond)], min(beyond), rows)


def beyond_embeddings(place: str, word: str, number: int, rows: int) -> UserError:
    """Return the error for a token that a model has no embedding for.

    Args:
        place: the recipe key and value.
        word: the token.
        number: its id.
        rows: embeddings that there are.
    """
    return UserError(
        f"{place}: {word!r} is token {number} of its tokenizer, but the model has embeddings for {rows:,} tokens only "
        f"(0 to {rows - 1}); use the tokenizer that it was saved with, or save the model again after "
        f"resize_token_embeddings({number + 1})"
    )


def has_image_token(tokenizer: Any) -> bool:
    """Return whether `<image>` is one token of this tokenizer."""
    return tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) not in (None, tokenizer.unk_token_id)


def add_image_token(tokenizer: Any) -> None:
    """Let a tokenizer know `<image>`, if it does not."""
    if not has_image_token(tokenizer):
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)


class ChatFormat:
    """The tokenizer's chat template, cut at the places that matter.

    Templates that ask for today's date get 1 January 2025, here and in the exported template: the format does not
    depend on the day. Where the tokenizer puts `<bos>` in front of a text, the template does not: there is one.

    Args:
        tokenizer: of the LLM.
        separator: between the image and the instruction.
        place: the recipe key and value, for errors.
        adds_bos: whether the tokenizer puts `<bos>` in front of a text.

    Attributes:
        before: text in front of the image.
        behind: text behind the instruction, up to where the answer begins.
        end: id of the token that ends an answer; None where the template's is no single special token.

    Raises:
        UserError: there is no chat template, or it does not write one user's turn as it was given.
    """

    def __init__(self, tokenizer: Any, separator: str, place: str, *, adds_bos: bool) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                f"model.prompt = 'chat': {place} has no chat template; use 'plain', or an instruct LLM's folder"
            )
        self._tokenizer, self._place, self._adds_bos = tokenizer, place, adds_bos
        template: str = tokenizer.get_chat_template().rpartition(_OWN)[2]
        needs_day = "strftime_now" in template and "macro strftime_now" not in template
        self._template = (_fixed_day() if needs_day else "") + template
        asked = f"{IMAGE_TOKEN}{separator}{INSTRUCTION}"
        turn: Any = {"role": "user", "content": asked}
        before, found, behind = self._render([turn], add_generation_prompt=True).partition(asked)
        self._takes_parts = not found
        if not found:  # a LLaVA's template, which takes images and texts apart
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]}
            before, found, behind = self._render([turn], add_generation_prompt=True).partition(asked)
        if not found or IMAGE_TOKEN in behind:
            raise UserError(
                f"model.prompt = 'chat': the chat template of {place} changes what the user says; use 'plain'"
            )
        self.before, self.behind = before, behind
        self.end = self._turn_end(turn)

    def _render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        if self._adds_bos:
            options["bos_token"] = ""
        try:
            text = self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, **options
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"model.prompt = 'chat': the chat template of {self._place} refuses a user's turn ({error}); "
                "use 'plain'"
            ) from error
        return str(text)

    def _turn_end(self, turn: dict[str, Any]) -> int | None:
        said: Any = [{"type": "text", "text": _ANSWER}] if self._takes_parts else _ANSWER
        _, _, closing = self._render([turn, {"role": "assistant", "content": said}]).rpartition(_ANSWER)
        ids: list[int] = self._tokenizer(closing.lstrip(), add_special_tokens=False)["input_ids"]
        special = {*self._tokenizer.all_special_ids, *self._tokenizer.added_tokens_decoder}
        return ids[0] if ids and ids[0] in special else None

    def exported(self, separator: str) -> str:
        """Return the template for LLaVA's processor: a message's parts become text, then the LLM's own template."""
        bos = "{%- set bos_token = '' -%}" if self._adds_bos else ""
        if self._takes_parts:
            return bos + self._template
        image = quoted(f"{IMAGE_TOKEN}{separator}")
        return (
            f"{bos}{{%- set fedcmp = namespace(messages=[], text='') -%}}"
            "{%- for m in messages -%}{%- if m['content'] is string or m['content'] is not iterable -%}"
            "{%- set fedcmp.messages = fedcmp.messages + [m] -%}"
            "{%- else -%}{%- set fedcmp.text = '' -%}{%- for c in m['content'] -%}"
            f"{{%- if c['type'] == 'image' -%}}{{%- set fedcmp.text = fedcmp.text + {image} -%}}"
            "{%- elif c['type'] == 'text' -%}{%- set fedcmp.text = fedcmp.text + c['text'] -%}{%- endif -%}"
            "{%- endfor -%}{%- set fedcmp.messages = fedcmp.messages + [dict(m, content=fedcmp.text)] -%}"
            "{%- endif -%}{%- endfor -%}{%- set messages = fedcmp.messages -%}"
            f"{_OWN}"
        ) + self._template


def _fixed_day() -> str:
    """Return what defines `strftime_now` in front of a template: it knows one day."""
    codes = "".join(f" | replace('{code}', '{value}')" for code, value in _DAY.items())
    return f"{{%- macro strftime_now(form) -%}}{{{{- form{codes} -}}}}{{%- endmacro -%}}"


def plain_template(separator: str) -> str:
    """Return the plain format for LLaVA's processor: images first, each followed by the separator, then the text."""
    image, line = quoted(f"{IMAGE_TOKEN}{separator}"), quoted(f"{IMAGE_TOKEN}\n")
    return (
        "{% for m in messages %}{% if m['content'] is string %}"
        f"{{{{ m['content'] | replace({line}, {image}) }}}}"
        "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        f"{{{{ {image} }}}}"
        "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    )


def quoted(text: str) -> str:
    """Return a text as a literal in a Jinja template."""
    text = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{text}'"
