"""Checks of single values that no type can say: paths, names and texts that the system or a page would stumble over."""

import unicodedata
from pathlib import Path
from typing import Any

_LONGEST_NAME = 200  # a file's name has at most 255 bytes on the usual disks


def check_path(value: Any) -> Any:
    """Refuse a path that no system can open; called before the text becomes a path.

    Raises:
        ValueError: it is empty, or holds a NUL, a line break or bytes that are no UTF-8.
    """
    text = str(value) if isinstance(value, str | Path) else "some"
    if not text:
        raise ValueError('must name a file or folder; "." is the folder of the recipe')
    if any(letter in "\0\n\r" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("must be a path in UTF-8 without NUL characters and line breaks")
    return value


def check_text(text: str) -> str:
    """Refuse what is no text.

    Raises:
        ValueError: it holds a NUL or half a character.
    """
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("must be text without NUL characters")
    return text


def check_label(name: str) -> str:
    """Refuse a client's name that could not be a folder's or a line's.

    Raises:
        ValueError: it is empty, too long, begins or ends with a space, names another folder, or holds a separator, a
            control or a direction mark.
    """
    if not name or name != name.strip() or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(f"must be a name of 1 to {_LONGEST_NAME} bytes without spaces around it")
    if name in (".", "..") or "/" in name or "\\" in name:
        raise ValueError("must be a name without '/' and '\\', for it becomes a folder's")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name):
        raise ValueError("must be a name without control characters, line breaks and direction marks")
    return name
