"""Checksums of files that are read back: a flipped bit or a foreign file is found before it changes a result.

    sealed(content)      a JSON object with one more key, "checksum": the hash of all its other keys
    sealed_toml(text)    a TOML text with one more line, a comment that holds the hash of what is above
    sha256(content)      of whole files, listed in a sealed object next to them

A seal is checked where there is one: files of version 0.2.0 and before have none.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"
_COMMENT = "# checksum of what is above: "
_DIGITS = 32  # of the hash


class Damaged(ValueError):  # noqa: N818 - says what happened
    """A file's content is not what was written."""


def sha256(content: bytes) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON-able object with its checksum as the last key.

    Args:
        content: the object; an earlier checksum is replaced.
    """
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return plain | {CHECKSUM: _of_object(json.loads(json.dumps(plain)))}


def is_sealed(content: object) -> bool:
    """Return whether a parsed JSON value carries a checksum."""
    return isinstance(content, Mapping) and CHECKSUM in content


def unsealed(content: Any) -> Any:
    """Return a parsed JSON value without its checksum, if it carries one.

    Raises:
        Damaged: the checksum is not that of the rest.
    """
    if not is_sealed(content):
        return content
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    if content[CHECKSUM] != _of_object(plain):
        raise Damaged("its content is not what was written: the checksum does not fit")
    return plain


def sealed_toml(text: str) -> str:
    """Return a TOML text with a last line that holds its checksum."""
    text = text if text.endswith("\n") or not text else text + "\n"
    return f"{text}{_COMMENT}{_of_text(text)}\n"


def check_toml(text: str) -> None:
    """Check a TOML text against its last line, if that is a checksum.

    Raises:
        Damaged: the text is not what was written.
    """
    above, line = text[: text.rfind("\n", 0, -1) + 1], text[text.rfind("\n", 0, -1) + 1 :]
    if line.startswith(_COMMENT) and line.removeprefix(_COMMENT).strip() != _of_text(above):
        raise Damaged("it is not what was written: the checksum in its last line does not fit")


def _of_object(plain: Mapping[str, Any]) -> str:
    return _of_text(json.dumps(plain, sort_keys=True, separators=(",", ":")))


def _of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
