"""Parquet files with images inside, as Hugging Face datasets and img2dataset write them.

    image     image, images, jpg, jpeg, png, webp, img, ...: struct<bytes, path> or binary, or a list with one of them
    caption   caption, captions, conversations, messages, texts, text, ...: text, a list of texts, or turns
    key       id, key or __key__; without them "file/row"
    group     group, if it is there

The captions' columns are read once when the source is opened; afterwards images and captions are read by row groups, of
which the last few are kept. pyarrow does all of that in another process (`parquet_process`). Keys that occur twice
become "key", "key#2", ... as in `llava`; a second file of one name becomes "file~2" as in `tars`. Rows that img2dataset
could not download are not used, and counted apart; rows without an image are bad pairs.

The fingerprint is a sha256 over keys, captions, groups and all bytes of the files: the same on every copy of them.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedcmp.data.accounts import NOT_DOWNLOADED, TEXT_ONLY, reasons
from fedcmp.data.captions import IMAGE_PLACEHOLDER, clean_label
from fedcmp.data.contents import DIGEST_BYTES, UNREADABLE, Digests, content_digests, table_path
from fedcmp.data.file_lists import check_is_here, file_labels
from fedcmp.data.numbered_keys import RepeatedKeys
from fedcmp.data.parquet_columns import IMAGES, Columns, find_columns
from fedcmp.data.parquet_process import MAX_GROUP_BYTES, PARQUET, ParquetError
from fedcmp.data.parquet_rows import RowGroupReader, column_values, row_value
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.record_fields import TURNS, caption_of
from fedcmp.data.source import Pair
from fedcmp.errors import UserError

SCAN_ROWS = 32_768  # read at a time when a source is opened


@dataclass(frozen=True)
class _RowGroup:
    file: int
    number: int  # in its file
    first_row: int  # in its file
    rows: int


class ParquetPairs:
    """A `PairSource` over parquet files."""

    def __init__(self, files: Sequence[Path], *, ignored: Counter[str] | None = None, contents: Path | None = None):
        """Read the files' captions and keys.

        Args:
            files: parquet files, each once, at least one.
            ignored: files beside these that are not read, by reason.
            contents: folder of the tables of what the files hold (`contents`).

        Raises:
            UserError: a file is missing, named twice, not parquet, lacks a column or has it in another type, or has
                row groups that are too large; or there is no pair in all of them.
        """
        self.files = list(files)
        self.name = self.files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.rejected: list[Rejected] = []
        self.rejected_at = array("Q")  # pairs before each of them
        self.unused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter(ignored or {})
        self._columns: list[Columns] = []
        self._groups: list[_RowGroup] = []
        self._group, self._row = array("I"), array("I")
        self._occurrence: dict[int, int] = {}  # of the indices whose key was taken before
        self._reader = RowGroupReader()
        self._contents = contents
        self._digests: Digests | None = None  # of the files
        if doubled := [path for path, count in Counter(self.files).items() if count > 1]:
            raise UserError(f"{doubled[0]}: the file is named twice: name each file once")
        self._labels, self._names = file_labels(self.files), [path.name for path in self.files]
        digest, taken = hashlib.sha256(b"parquet"), RepeatedKeys()
        for number in range(len(self.files)):
            self._scan(number, digest, taken)
        self._occurrence = taken.occurrences(self._plain_key)
        self._scanned = digest.hexdigest()
        if not len(self):
            found = reasons(Counter(bad.reason for bad in self.rejected) + self.unused) or "no rows"
            raise UserError(f"{self.files[0]}: no usable pairs ({found}): expected rows with an image and a caption")

    def __len__(self) -> int:
        return len(self._group)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        group, row = self._group[index], self._row[index]
        columns = self._columns[self._groups[group].file]
        table = self._read(group, columns.texts)
        if row >= table.num_rows:
            raise BadPair("no caption", f"{self._place(group, row)} has changed since it was opened")
        caption, _ = _caption(columns.caption, row_value(table, columns.caption, row))
        label = _label(row_value(table, columns.group, row))
        key, occurrence = self._plain_key(index), self._occurrence.get(index, 1)
        return Pair(key if occurrence == 1 else f"{key}#{occurrence}", caption, label)

    def read_image(self, index: int) -> bytes:
        """Read one image; see `PairSource`."""
        group, row = self._group[index], self._row[index]
        column = self._read(group, [self._columns[self._groups[group].file].image]).column(0)
        if row >= len(column):
            raise BadPair("missing", f"{self._place(group, row)} has changed since it was opened")
        value = column[row].as_py()
        if isinstance(value, list):
            if len(value) > 1:
                raise BadPair("several images", f"{len(value)}")
            value = value[0] if value else None
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise BadPair("no image")
        return bytes(data)

    def fingerprint(self, progress: Callable[[int, int], object] | None = None, *, first: int | None = None) -> str:
        """Return the sha256 over keys, captions, groups and the bytes of the files, or those with the first pairs."""
        count = len(self) if first is None else first
        files = self._groups[self._group[count - 1]].file + 1
        if self._digests is None or len(self._digests) < files:
            table = table_path(self._contents, self._scanned, files, [path.absolute() for path in self.files])
            ones = np.ones(files, np.int64)
            self._digests = content_digests(table, self.files.__getitem__, ones, self._file_digest, progress)
        return hashlib.sha256(self._scanned.encode() + self._digests[:files].tobytes()).hexdigest()

    def locate(self, index: int) -> str:
        """Return "file[row]"."""
        return self._place(self._group[index], self._row[index])

    def _file_digest(self, number: int) -> bytes:
        try:
            with self.files[number].open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).digest()
        except OSError:
            return UNREADABLE

    def _scan(self, number: int, digest: "hashlib._Hash", taken: RepeatedKeys) -> None:
        """Index one file's pairs, many row groups at a time."""
        path = self.files[number]
        with _told(path):
            with path.open("rb") as file:
                check_is_here(path, file.read(64))
            schema, groups = PARQUET.describe(path, list(IMAGES))
            columns = find_columns(path, schema)
            self._columns.append(columns)
            span: list[int] = []  # positions in self._groups
            absent: dict[int, set[int]] = {}
            first_row = 0
            for group, described in enumerate(groups):
                if described["rows"] < 0:
                    raise ParquetError("unreadable", f"row group {group} claims {described['rows']} rows")
                size, nulls = _image_leaf(described["leaves"], columns.image)
                if size > MAX_GROUP_BYTES:
                    raise UserError(
                        f"{path}: column {columns.image}: row group {group} holds {size / 2**30:.1f} GiB of images, "
                        "too much to read at a time: write the file again with row groups of 1000 rows"
                    )
                if nulls:
                    absent[len(self._groups)] = set(PARQUET.absent(path, group, columns.image))
                span.append(len(self._groups))
                self._groups.append(_RowGroup(number, group, first_row, described["rows"]))
                first_row += described["rows"]
                if group + 1 == len(groups) or first_row - self._groups[span[0]].first_row >= SCAN_ROWS:
                    numbers = [self._groups[position].number for position in span]
                    table = PARQUET.read(path, numbers, columns.texts)
                    if table.num_rows != sum(self._groups[position].rows for position in span):
                        raise ParquetError("unreadable", "its row groups do not hold the rows that they claim")
                    self._index_rows(columns, span, table, absent, digest, taken)
                    span = []

    def _index_rows(
        self,
        columns: Columns,
        span: list[int],
        table: pa.Table,
        absent: dict[int, set[int]],
        digest: "hashlib._Hash",
        taken: RepeatedKeys,
    ) -> None:
        """Index the rows of some row groups that stand side by side."""
        captions, keys, groups, statuses = (
            column_values(table, name) for name in (columns.caption, columns.key, columns.group, columns.status)
        )
        places = ((position, row) for position in span for row in range(self._groups[position].rows))
        for at, (group, row) in enumerate(places):
            if columns.status and statuses[at] != "success":
                self.unused[NOT_DOWNLOADED] += 1
                continue
            key = self._place(group, row)
            try:
                key = self._key(keys[at], group, row)
                if row in absent.get(group, ()):
                    if _is_text_only(columns.caption, captions[at]):
                        self.unused[TEXT_ONLY] += 1
                        continue
                    raise BadPair("no image")
                caption, ignored = _caption(columns.caption, captions[at])
                label = _label(groups[at])
            except BadPair as bad:
                self.rejected.append(Rejected(key, self._place(group, row), bad.reason, bad.detail))
                self.rejected_at.append(len(self))
                continue
            self.ignored.update(ignored)
            for part in (key, caption, label or ""):
                told = part.encode()
                digest.update(len(told).to_bytes(8, "little") + told)
            taken.add(key)
            self._group.append(group)
            self._row.append(row)

    def _key(self, value: Any, group: int, row: int) -> str:
        where = self._groups[group]
        return _label(value) or f"{self._labels[where.file]}/{where.first_row + row}"

    def _place(self, group: int, row: int) -> str:
        where = self._groups[group]
        return f"{self._names[where.file]}[{where.first_row + row}]"

    def _plain_key(self, index: int) -> str:
        group, row = self._group[index], self._row[index]
        columns = self._columns[self._groups[group].file]
        return self._key(row_value(self._read(group, columns.texts), columns.key, row), group, row)

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        where = self._groups[group]
        return self._reader.read(self.files[where.file], where.number, columns)


def _caption(column: str, value: Any) -> tuple[str, Counter[str]]:
    """A row's caption and what else could be one; raises the BadPair that the value may be."""
    if isinstance(value, BadPair):
        raise value
    return caption_of({column: value})


def _label(value: Any) -> str | None:
    """A value as an id or a group, None where nothing of it is left; raises the BadPair that it may be."""
    if isinstance(value, BadPair):
        raise value
    return None if value is None else clean_label(str(value)) or None


def _is_text_only(column: str, value: Any) -> bool:
    """Whether a row without an image is a conversation that speaks of none."""
    return column in TURNS and isinstance(value, list) and IMAGE_PLACEHOLDER not in str(value)


def _image_leaf(leaves: dict[str, list[Any]], column: str) -> tuple[int, int]:
    """The uncompressed size of a row group's images, and how many there are not, as far as the file says."""
    found = [entry for leaf, entry in leaves.items() if leaf == column or leaf.startswith(f"{column}.")]
    return sum(size for size, _ in found), max((nulls or 0 for _, nulls in found), default=0)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What cannot be read, in one line."""
    try:
        yield
    except ParquetError as error:
        raise UserError(f"{path}: cannot be read as parquet ({error}): is it whole?") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as parquet ({error.strerror}): is it whole?") from None
