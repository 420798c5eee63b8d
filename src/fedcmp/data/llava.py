"""LLaVA's format: a JSON array or JSON lines of image-caption records with a folder of images.

    {"id": "004", "image": "00453/004.jpg", "conversations": [{"from": "human", "value": "Describe.\\n<image>"},
                                                              {"from": "gpt", "value": "a red house"}]}
    {"image": "a.png", "caption": "a red house", "group": "photos"}

`record_fields` has the other names that are read. The files are scanned once; only each record's place is kept (20
bytes), and `pair` reads its record again. Of a conversation the first answer is the caption. A record without an image
is text only: not used, and counted apart. Two records with one id (or, without ids, one image) get the keys "id",
"id#2", ... A folder stands for its metadata.jsonl (Hugging Face's imagefolder), else for its JSON files, else for the
metadata.jsonl of the folders below.

The fingerprint is a sha256 over the annotation files' bytes and those of every image: the same on every copy.
"""

import glob
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedcmp.data.accounts import TEXT_ONLY, reasons
from fedcmp.data.contents import Digests, content_digests, digest_or_none, is_changed, table_path
from fedcmp.data.file_lists import FileList, check_is_here, expand_files, is_file, is_folder
from fedcmp.data.json_records import json_records
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.reading import RandomReader, read_whole
from fedcmp.data.record_fields import Fields, key_of, read_fields
from fedcmp.data.source import Pair
from fedcmp.errors import UserError

_METADATA = "metadata.jsonl"


def annotation_files(paths: Sequence[Path]) -> FileList:
    """Find the annotation files that some names stand for.

    Raises:
        UserError: a name stands for no file.
    """
    found = FileList()
    for path in paths:
        endings: tuple[str, ...] = (".json", ".jsonl")
        if is_folder(path) and not any(entry.suffix in endings for entry in path.iterdir()):
            endings = (_METADATA,)
        elif is_file(path / _METADATA):
            path = path / _METADATA
        if not glob.has_magic(str(path)) and "{" not in str(path) and not is_folder(path):
            found.files.append(path)  # one that is not there is told when it is read
            continue
        listed = expand_files([path], endings, what="annotation file")
        found.files += listed.files
        found.ignored += listed.ignored
    return found


class LlavaPairs:
    """A `PairSource` over LLaVA-format files."""

    def __init__(
        self,
        files: Sequence[Path],
        images: Path | None = None,
        *,
        ignored: Counter[str] | None = None,
        contents: Path | None = None,
    ):
        """Scan the files.

        Args:
            files: JSON arrays or JSON-lines files, at least one.
            images: the folder that the records' image paths start from; None: each file's own folder.
            ignored: files beside these that are not read, by reason.
            contents: folder of the tables of what images hold (`contents`).

        Raises:
            UserError: a file cannot be read, is not JSON, or holds no pairs; the images folder does not exist.
        """
        self.files, self.images = list(files), images
        self.name = self.files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.rejected: list[Rejected] = []
        self.rejected_at = array("Q")  # pairs before each of them
        self.unused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter(ignored or {})
        self._file, self._place, self._size = array("I"), array("I"), array("I")
        self._offset = array("Q")
        self._occurrence: dict[int, int] = {}  # of the indices whose key was taken before
        self._reader = RandomReader()
        self._contents = contents
        self._digests: Digests | None = None
        if images is not None and not images.is_dir():
            raise UserError(f"{images}: no such folder: name the folder that the records' image paths start from")
        digest, taken = hashlib.sha256(b"llava"), dict[int, int]()
        for number, path in enumerate(self.files):
            try:
                digest.update(self._scan(number, path, taken))
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        self._scanned = digest.hexdigest()
        if not len(self):
            counts = Counter(bad.reason for bad in self.rejected) + self.unused
            raise UserError(
                f"{self.files[0]}: no usable pairs ({reasons(counts) or 'no records'}): expected records with "
                '"image" and "conversations" or "caption", in a JSON array or one a line'
            )

    def __len__(self) -> int:
        return len(self._file)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        record = self._read(index)
        fields = self._fields(index, record)
        return Pair(self._key(index, record), fields.caption, fields.group)

    def read_image(self, index: int) -> bytes:
        """Read one image's file; see `PairSource`."""
        data = read_whole(self._path(index))
        if is_changed(self._digests, index, data):
            raise BadPair("changed", f"{self._path(index)}: other bytes than when the run began")
        return data

    def fingerprint(self, progress: Callable[[int, int], object] | None = None, *, first: int | None = None) -> str:
        """Return the sha256 over the annotation files' bytes and the images', or those of the first pairs."""
        count = len(self) if first is None else first
        if self._digests is None or len(self._digests) < count:
            places = [self.images, *(path.absolute() for path in self.files)]
            table = table_path(self._contents, self._scanned, count, places)
            ones = np.ones(count, np.int64)
            self._digests = content_digests(table, self._path_or_none, ones, self._image_digest, progress)
        return hashlib.sha256(self._scanned.encode() + self._digests[:count].tobytes()).hexdigest()

    def locate(self, index: int) -> str:
        """Return "file[record] image"."""
        try:
            image = self._fields(index, self._read(index)).image
        except BadPair:
            image = "?"
        return f"{self.files[self._file[index]].name}[{self._place[index]}] {image}"

    def _image_digest(self, index: int) -> bytes:
        return digest_or_none(lambda: read_whole(self._path(index)))

    def _path_or_none(self, index: int) -> Path | None:
        try:
            return self._path(index)
        except BadPair:
            return None

    def _path(self, index: int) -> Path:
        image = self._fields(index, self._read(index)).image or ""
        return (self.images or self.files[self._file[index]].parent) / image

    def _fields(self, index: int, record: dict[str, Any]) -> Fields:
        fields = read_fields(record)
        if fields.image is None:  # records without one have no index
            raise self._changed(index)
        return fields

    def _read(self, index: int) -> dict[str, Any]:
        path = self.files[self._file[index]]
        data = self._reader.read(path, self._offset[index], self._size[index])
        try:
            record: dict[str, Any] = json.loads(data)
        except (ValueError, RecursionError):
            raise self._changed(index) from None
        return record

    def _changed(self, index: int) -> BadPair:
        return BadPair("malformed record", f"{self.files[self._file[index]]} has changed since it was opened")

    def _key(self, index: int, record: dict[str, Any]) -> str:
        key, occurrence = key_of(record), self._occurrence.get(index, 1)
        return key if occurrence == 1 else f"{key}#{occurrence}"

    def _scan(self, number: int, path: Path, taken: dict[int, int]) -> bytes:
        """Index one file and return its sha256; `taken` holds the hashes of the keys so far and their occurrences."""
        with path.open("rb") as file:
            check_is_here(path, file.read(64))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
        for place, offset, size, record in json_records(path):
            try:
                fields: Fields = read_fields(record)
            except BadPair as bad:
                key = key_of(record) if isinstance(record, dict) else f"{path.name}[{place}]"
                self.rejected.append(Rejected(key, f"{path.name}[{place}]", bad.reason, bad.detail))
                self.rejected_at.append(len(self))
                continue
            if fields.image is None:
                self.unused[TEXT_ONLY] += 1
                continue
            self.ignored.update(fields.ignored)
            self._number_key(key_of(record), taken)
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


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
