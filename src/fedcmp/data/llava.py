"""LLaVA's format: a JSON array or JSON lines of image-caption records beside a folder of pictures.

    {"id": "004", "image": "00453/004.jpg", "conversations": [{"from": "human", "value": "Describe.\\n<image>"},
                                                              {"from": "gpt", "value": "a red house"}]}
    {"image": "a.png", "caption": "a red house", "group": "photos"}

The files are scanned once; only each record's place is kept (20 bytes), and `pair` reads its record again. Of a
conversation the first answer is the caption. A record without an image is text only: skipped and counted apart, not a
bad pair. Two records with one id (or, without ids, one picture) get the keys "id", "id#2", ...

The fingerprint is a sha256 over the annotation files' bytes: the same on every copy of the data. A picture that is
replaced under its old name is not noticed.
"""

import hashlib
import json
import os.path
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedcmp.data.captions import clean_caption
from fedcmp.data.json_records import json_records
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.reading import RandomReader, read_whole
from fedcmp.data.source import Pair
from fedcmp.errors import UserError

_DRIVE = re.compile("[A-Za-z]:")


class LlavaPairs:
    """A `PairSource` over LLaVA-format files."""

    def __init__(self, files: Sequence[Path], images: Path):
        """Scan the files.

        Args:
            files: JSON arrays or JSON-lines files, at least one.
            images: the folder that the records' "image" paths start from.

        Raises:
            UserError: a file cannot be read, is not JSON, or holds no pairs; the images folder does not exist.
        """
        self.files, self.images = list(files), images
        self.name = self.files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.rejected: list[Rejected] = []
        self.text_only = 0  # records without an image, skipped
        self._file, self._place, self._size = array("I"), array("I"), array("I")
        self._offset = array("Q")
        self._occurrence: dict[int, int] = {}  # of the indices whose key was taken before
        self._reader = RandomReader()
        if not images.is_dir():
            raise UserError(f"{images}: no such folder: name the folder that the records' image paths start from")
        digest, taken = hashlib.sha256(b"llava"), dict[int, int]()
        for number, path in enumerate(self.files):
            try:
                digest.update(self._scan(number, path, taken))
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        self._fingerprint = digest.hexdigest()
        if not len(self):
            counts = Counter(bad.reason for bad in self.rejected) + Counter({"text only": self.text_only})
            found = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "no records"
            raise UserError(
                f'{self.files[0]}: no usable pairs ({found}): expected records with "image" and "conversations" or '
                '"caption", in a JSON array or one a line'
            )

    def __len__(self) -> int:
        return len(self._file)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        record = self._read(index)
        _, caption = picture_and_caption(record)
        group = record.get("group")
        return Pair(self._key(index, record), caption, None if group is None else str(group))

    def read_image(self, index: int) -> bytes:
        """Read one picture's file; see `PairSource`."""
        picture, _ = picture_and_caption(self._read(index))
        return read_whole(self.images / picture)

    def fingerprint(self) -> str:
        """Return the sha256 over the annotation files' bytes."""
        return self._fingerprint

    def locate(self, index: int) -> str:
        """Return "file[record] picture"."""
        try:
            picture = picture_and_caption(self._read(index))[0]
        except BadPair:
            picture = "?"
        return f"{self.files[self._file[index]].name}[{self._place[index]}] {picture}"

    def _read(self, index: int) -> dict[str, Any]:
        path = self.files[self._file[index]]
        data = self._reader.read(path, self._offset[index], self._size[index])
        try:
            record: dict[str, Any] = json.loads(data)
        except (ValueError, RecursionError):
            raise BadPair("malformed record", f"{path} has changed since it was opened") from None
        return record

    def _key(self, index: int, record: dict[str, Any]) -> str:
        key, occurrence = _plain_key(record), self._occurrence.get(index, 1)
        return key if occurrence == 1 else f"{key}#{occurrence}"

    def _scan(self, number: int, path: Path, taken: dict[int, int]) -> bytes:
        """Index one file and return its sha256; `taken` holds the hashes of the keys so far and their occurrences."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        for place, offset, size, record in json_records(path):
            if isinstance(record, dict) and record.get("image") in (None, "", []):
                self.text_only += 1
                continue
            try:
                picture_and_caption(record)
            except BadPair as bad:
                key = _plain_key(record) if isinstance(record, dict) else f"{path.name}[{place}]"
                self.rejected.append(Rejected(key, f"{path.name}[{place}]", bad.reason, bad.detail))
                continue
            self._number_key(_plain_key(record), taken)
            self._file.append(number)
            self._place.append(place)
            self._offset.append(offset)
            self._size.append(size)
        return digest

    def _number_key(self, key: str, taken: dict[int, int]) -> None:
        """Give the next pair the first of key, key#2, key#3, ... that is free."""
        plain = _hash(key)
        occurrence = taken.get(plain, 0) + 1
        if occurrence > 1:
            while (numbered := _hash(f"{key}#{occurrence}")) in taken:
                occurrence += 1
            taken[numbered] = 1
            self._occurrence[len(self)] = occurrence
        taken[plain] = occurrence


def picture_and_caption(record: Any) -> tuple[str, str]:
    """Return a record's picture path, relative and inside the images folder, and its cleaned caption.

    Raises:
        BadPair: "malformed record", "several images", "path outside the folder", "no caption" or "empty caption".
    """
    if not isinstance(record, dict):
        raise BadPair("malformed record", "not an object")
    picture = record.get("image")
    if isinstance(picture, list):
        if len(picture) != 1:
            raise BadPair("several images", f"{len(picture)}")
        picture = picture[0]
    if not isinstance(picture, str) or not picture:
        raise BadPair("malformed record", '"image" is not a path')
    caption = record.get("caption")
    if caption is None:
        caption = _first_answer(record.get("conversations"))
    if not isinstance(caption, str):
        raise BadPair("no caption")
    return _inside(picture), clean_caption(caption)


def _first_answer(turns: Any) -> Any:
    if isinstance(turns, list):
        for turn in turns:
            if isinstance(turn, dict) and turn.get("from") in ("gpt", "assistant"):
                return turn.get("value")
    return None


def _inside(picture: str) -> str:
    normal = os.path.normpath(picture.replace("\\", "/"))
    if normal.startswith("/") or normal in (".", "..") or normal.startswith("../") or _DRIVE.match(normal):
        raise BadPair("path outside the folder", picture)
    return normal


def _plain_key(record: dict[str, Any]) -> str:
    return str(record["id"] if record.get("id") not in (None, "") else record.get("image"))


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
