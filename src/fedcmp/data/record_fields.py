"""What the fields of one record mean: its image, its caption and its group, under the names that files in the wild use.

    image      image, images, image_path, ..., file_name (Hugging Face's imagefolder), or in a turn's content: a path,
               {"path": ...}, or a list with one of them
    caption    caption, captions, the first answer of conversations, messages or texts, then text, response, ...
    turns      [{"from": "gpt", "value": ...}], [{"role": "assistant", "content": ...}], [{"assistant": ...}]; content
               may be a list of {"type": "text", "text": ...}
    lists      of captions: the first that is not empty; how many others there are is counted, as are later answers

A record with no image at all is text only; one that has a place for an image in its text ("<image>"), or an image file
under a name that is not known here, is a bad pair instead: its image would be lost.
"""

import os.path
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fedcmp.data.captions import IMAGE_PLACEHOLDER, clean_caption, clean_label
from fedcmp.data.quality import BadPair

IMAGES = (
    *("image", "images", "image_path", "image_file", "img", "img_path", "file_name", "filename", "filepath", "file"),
    *("picture", "photo"),
)
CAPTIONS = ("caption", "captions")
TURNS = ("conversations", "conversation", "messages", "texts")
OTHER_CAPTIONS = ("text", "txt", "sentences", "response", "output", "description")
FURTHER, LATER = "further captions of an image", "later turns of a conversation"
_PATHS = ("path", "file_name", "filename", "image", "url")
_ANSWERS = ("gpt", "assistant", "model", "chatgpt", "bot")
_IMAGE_FILE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|jp2)$", re.IGNORECASE)
_DRIVE = re.compile("[A-Za-z]:")
_ELSEWHERE = re.compile("(https?|s3|gs|file)://|data:image/", re.IGNORECASE)


class Fields(NamedTuple):
    """What a record says.

    Attributes:
        image: the image's path, relative and inside the images folder; None: the record is text only.
        caption: cleaned, never empty; "" where the record is text only.
        group: a label, or None.
        ignored: what else it holds that is not read, by reason.
    """

    image: str | None
    caption: str
    group: str | None
    ignored: Counter[str]


def read_fields(record: Any) -> Fields:
    """Read a record that names its image.

    Raises:
        BadPair: "malformed record", "no image", "several images", "path outside the folder", "no caption" or "empty
            caption".
    """
    if not isinstance(record, dict):
        raise BadPair("malformed record", "not an object")
    image = _image_of(record)
    if image is None:
        return Fields(None, "", None, Counter())
    caption, ignored = caption_of(record)
    return Fields(_inside(image), caption, group_of(record), ignored)


def group_of(record: Mapping[str, Any]) -> str | None:
    """Return the record's group, cleaned; None if there is none."""
    group = record.get("group")
    return None if group is None else clean_label(str(group)) or None


def key_of(record: Mapping[str, Any]) -> str:
    """Return a record's id, cleaned, or its image's path where it has none."""
    name = record["id"] if record.get("id") not in (None, "") else _path_of(_named_image(record))
    return clean_label(str(name)) or "-"


def caption_of(record: Mapping[str, Any]) -> tuple[str, Counter[str]]:
    """Return a record's caption, cleaned, and what else there is that could be one.

    Raises:
        BadPair: "no caption" or "empty caption".
    """
    for name in (*CAPTIONS, *TURNS, *OTHER_CAPTIONS):
        value = record.get(name)
        if name in TURNS:
            if isinstance(value, list) and any(map(_is_turn, value)):
                return first_answer(value)
            if name != "texts":  # what are no turns may be questions as well
                continue
        if value not in (None, []):
            return first_caption(value)
    raise BadPair("no caption")


def first_caption(value: Any) -> tuple[str, Counter[str]]:
    """Return the first usable caption of a text or a list of them.

    Raises:
        BadPair: "no caption", or "empty caption" where all of them are.
    """
    entries = value if isinstance(value, list) else [value]
    texts = [text for entry in entries if (text := _text_of(entry)) is not None]
    if not texts:
        raise BadPair("no caption")
    problem = BadPair("empty caption")
    for text in texts:
        try:
            return clean_caption(text), Counter({FURTHER: len(texts) - 1})
        except BadPair as bad:
            problem = bad
    raise problem


def first_answer(turns: list[Any]) -> tuple[str, Counter[str]]:
    """Return a conversation's first answer, cleaned, and the number of later ones.

    Raises:
        BadPair: "no caption" or "empty caption".
    """
    answers = [answer for turn in turns if isinstance(turn, dict) for answer in _answers(turn)]
    if not answers or not isinstance(answers[0], str):
        raise BadPair("no caption")
    return clean_caption(answers[0]), Counter({LATER: len(answers) - 1})


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"from", "role", "assistant"})


def _answers(turn: dict[str, Any]) -> Iterator[Any]:
    role = turn.get("from", turn.get("role"))
    if isinstance(role, str) and role.lower() in _ANSWERS:
        content = turn.get("value", turn.get("content"))
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "\n".join(part for part in parts if isinstance(part, str)) or None
        yield content
    elif role is None and "assistant" in turn:
        yield turn["assistant"]


def _text_of(entry: Any) -> str | None:
    """A caption as it stands in a list: a text, or what Karpathy's splits make of it."""
    if isinstance(entry, dict):
        entry = next((entry[name] for name in ("caption", "raw", "text") if isinstance(entry.get(name), str)), None)
    return entry if isinstance(entry, str) else None


def _named_image(record: Mapping[str, Any]) -> Any:
    """The value of the first field that names an image; None if none does."""
    for name in IMAGES:
        value = record.get(name)
        if value not in (None, "", []):
            return value[0] if isinstance(value, list) and len(value) == 1 else value
    shown = list(_shown_in_turns(record))
    return shown[0] if len(shown) == 1 else shown or None


def _image_of(record: Mapping[str, Any]) -> str | None:
    """The path of the record's image as it is written; None where the record is text only."""
    value = _named_image(record)
    if value is None:
        _check_text_only(record)
        return None
    if isinstance(value, list):
        raise BadPair("several images", f"{len(value)}")
    path = _path_of(value)
    if not isinstance(path, str) or not path:
        raise BadPair("malformed record", "the image is not a path")
    return path


def _path_of(value: Any) -> Any:
    """What stands for an image's path: the value, or a field of it."""
    return next((value[name] for name in _PATHS if name in value), None) if isinstance(value, dict) else value


def _shown_in_turns(record: Mapping[str, Any]) -> Iterator[Any]:
    """Images in the content of turns: {"type": "image", "image": ...}, {"type": "image_url", "image_url": {...}}."""
    for part in _parts_of_turns(record):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image", "image_url"):
            named = part.get(kind, part.get("image", part.get("path", part.get("url"))))
            if named not in (None, ""):
                yield named


def _parts_of_turns(record: Mapping[str, Any]) -> Iterator[Any]:
    for name in TURNS:
        turns = record.get(name)
        for turn in turns if isinstance(turns, list) else ():
            content = turn.get("value", turn.get("content")) if isinstance(turn, dict) else turn
            yield from content if isinstance(content, list) else (content,)


def _check_text_only(record: Mapping[str, Any]) -> None:
    """A record that speaks of an image has lost it: that is a bad pair, not a text."""
    parts = list(_parts_of_turns(record))
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    texts += [record.get(name) for name in (*CAPTIONS, *OTHER_CAPTIONS, "query", "instruction")]
    if any(isinstance(text, str) and IMAGE_PLACEHOLDER in text for text in texts):
        raise BadPair("no image", f'its text says {IMAGE_PLACEHOLDER}, but no field "image" or "images" names one')
    if any(isinstance(part, dict) and part.get("type") in ("image", "image_url") for part in parts):
        raise BadPair("no image", "an image of a turn has no path")
    for name, value in record.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str) and _IMAGE_FILE.search(first):
            raise BadPair("no image", f'"{name}" may be it: name the field "image"')


def _inside(path: str) -> str:
    if _ELSEWHERE.match(path):
        raise BadPair("malformed record", f"the image is not a file of the images folder: {path[:80]}")
    normal = os.path.normpath(path.replace("\\", "/"))
    if normal.startswith("/") or normal in (".", "..") or normal.startswith("../") or _DRIVE.match(normal):
        raise BadPair("path outside the folder", path)
    return normal
