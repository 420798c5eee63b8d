"""The records of a JSON array or of a JSON-lines file, one at a time, each with its place in bytes.

A JSON array is decoded through a window of some megabytes, so a file of any size can be indexed in little memory.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fedcmp.errors import UserError

WINDOW_BYTES = 4 * 2**20
_VISIBLE = re.compile(r"[^ \t\n\r]")
_decode = json.JSONDecoder().raw_decode


def json_records(path: Path) -> Iterator[tuple[int, int, int, Any]]:
    """Read a JSON array's elements or a JSON-lines file's lines; the first character tells which it is.

    Args:
        path: UTF-8 text, with or without a byte-order mark.

    Yields:
        (number, offset, size, record): the element's or line's number from 0, its place in bytes, and the decoded
        value; None for a line that is not JSON. Blank lines count as lines and yield nothing.

    Raises:
        OSError: the file cannot be read.
        UserError: an array is malformed or cut off.
    """
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
        file.seek(0)
        yield from (_elements(path, file) if start.startswith(b"[") else _lines(file))


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, int, Any]]:
    offset = 0
    for number, line in enumerate(file):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            yield number, offset, len(line), record
        offset += len(line)


def _elements(path: Path, file: BinaryIO) -> Iterator[tuple[int, int, int, Any]]:
    text, number = _JsonText(file), 0
    try:
        text.expect("[")
        while text.peek() != "]":
            if number > 0:
                text.expect(",")
            yield number, *text.value()
            number += 1
        text.expect("]")
        if text.peek():
            raise ValueError("text after the array's end")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON in record {number}, near byte {text.offset:,} ({error}): is the file cut off?"
        ) from None


class _JsonText:
    """JSON text behind a window, read forwards only."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self.offset = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0  # of _text[_at], in bytes
        file.seek(0)

    def peek(self) -> str:
        """Skip white space and return the character there; "" at the end."""
        while not (found := _VISIBLE.search(self._text, self._at)):
            self._advance(len(self._text))
            if self._ended:
                return ""
            self._read_on()
        self._advance(found.start())
        return found.group()

    def expect(self, mark: str) -> None:
        """Step over one character, which must be `mark`."""
        if (found := self.peek()) != mark:
            raise ValueError(f"expected {mark!r}, found {repr(found) if found else 'the end'}")
        self._advance(self._at + 1)

    def value(self) -> tuple[int, int, Any]:
        """Decode one value; returns its byte offset, its size in bytes and the value."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # else a number may go on behind the window
                    break
            except ValueError:
                if self._ended:
                    raise
            self._read_on()
        begin = self.offset
        self._advance(end)
        return begin, self.offset - begin, value

    def _advance(self, end: int) -> None:
        self.offset += len(self._text[self._at : end].encode())
        self._at = end

    def _read_on(self) -> None:
        """Drop what is behind, and double what is ahead, so that a long record is not decoded over and over."""
        ahead = self._text[self._at :]
        data = self._file.read(max(WINDOW_BYTES, len(ahead)))
        self._ended = not data
        self._text, self._at = ahead + self._decoder.decode(data, final=self._ended), 0
