"""Parquet files with pictures inside, as Hugging Face datasets and img2dataset write them.

    picture   image, jpg, jpeg, png, webp or img: struct<bytes, path> or binary
    caption   caption or text
    key       id, key or __key__; without them "file/row"
    group     group, if it is there

The captions' columns are read once when the source is opened; afterwards pictures and captions are read by row groups,
of which the last few are kept. Keys that occur twice become "key", "key#2", ... as in `llava`; a second file of one
name becomes "file~2" as in `tars`. Rows that img2dataset could not download are skipped and counted apart, not bad.

The fingerprint is a sha256 over keys, captions, groups and the pictures' sizes by row group: the same on every copy of
the files. A picture that is replaced by another of equal size is not noticed.
"""

import hashlib
import os
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedcmp.data.captions import clean_caption
from fedcmp.data.parquet_columns import Columns, file_labels, find_columns
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.source import Pair
from fedcmp.errors import UserError

MAX_GROUP_BYTES = 2**31  # of pictures in one row group: as much is read at a time
KEEP_BYTES, KEEP_GROUPS = 256 * 2**20, 64  # at most so much of pictures, and so much of captions
KEEP_OPEN = 4
SCAN_ROWS = 32_768  # read at a time when a source is opened


@dataclass(frozen=True)
class _RowGroup:
    file: int
    number: int  # in its file
    first_row: int  # in its file
    rows: int


class ParquetPairs:
    """A `PairSource` over parquet files."""

    def __init__(self, files: Sequence[Path]):
        """Read the files' captions and keys.

        Args:
            files: parquet files, each once, at least one.

        Raises:
            UserError: a file is missing, named twice, not parquet, lacks a column or has it in another type, or has
                row groups that are too large; or there is no pair in all of them.
        """
        self.files = list(files)
        self.name = self.files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.rejected: list[Rejected] = []
        self.text_only = 0  # rows without a picture because it was not downloaded
        self._columns: list[Columns] = []
        self._groups: list[_RowGroup] = []
        self._group, self._row = array("I"), array("I")
        self._occurrence: dict[int, int] = {}  # of the indices whose key was taken before
        self._reader = _RowGroupReader()
        if doubled := [path for path, count in Counter(self.files).items() if count > 1]:
            raise UserError(f"{doubled[0]}: the file is named twice: name each file once")
        self._labels, self._names = file_labels(self.files), [path.name for path in self.files]
        digest, taken = hashlib.sha256(b"parquet"), _Taken()
        for number in range(len(self.files)):
            self._scan(number, digest, taken)
        self._occurrence = taken.occurrences(self._plain_key)
        self._fingerprint = digest.hexdigest()
        if not len(self):
            counts = Counter(bad.reason for bad in self.rejected) + Counter({"not downloaded": self.text_only})
            found = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "no rows"
            raise UserError(f"{self.files[0]}: no usable pairs ({found}): expected rows with a picture and a caption")

    def __len__(self) -> int:
        return len(self._group)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        group, row = self._group[index], self._row[index]
        columns = self._columns[self._groups[group].file]
        table = self._read(group, columns.texts)
        caption, label = (_text(_value(table, name, row)) for name in (columns.caption, columns.group))
        if caption is None:
            raise BadPair("no caption", f"{self._place(group, row)} has changed since it was opened")
        key, occurrence = self._plain_key(index), self._occurrence.get(index, 1)
        return Pair(key if occurrence == 1 else f"{key}#{occurrence}", clean_caption(caption), label)

    def read_image(self, index: int) -> bytes:
        """Read one picture; see `PairSource`."""
        group, row = self._group[index], self._row[index]
        column = self._read(group, [self._columns[self._groups[group].file].picture]).column(0)
        if row >= len(column):
            raise BadPair("missing", f"{self._place(group, row)} has changed since it was opened")
        value = column[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise BadPair("no image")
        return bytes(data)

    def fingerprint(self) -> str:
        """Return the sha256 over keys, captions, groups and sizes."""
        return self._fingerprint

    def locate(self, index: int) -> str:
        """Return "file[row]"."""
        return self._place(self._group[index], self._row[index])

    def _scan(self, number: int, digest: "hashlib._Hash", taken: "_Taken") -> None:
        """Index one file's pairs, many row groups at a time."""
        path = self.files[number]
        with _told(path), pq.ParquetFile(path) as file:
            columns = find_columns(path, file.schema_arrow)
            self._columns.append(columns)
            span: list[int] = []  # positions in self._groups
            first_row = 0
            for group in range(file.num_row_groups):
                metadata = file.metadata.row_group(group)
                size = _picture_bytes(metadata, columns.picture)
                if size > MAX_GROUP_BYTES:
                    raise UserError(
                        f"{path}: column {columns.picture}: row group {group} holds {size / 2**30:.1f} GiB of "
                        "pictures, too much to read at a time: write the file again with row groups of 1000 rows"
                    )
                digest.update(f"{size}\0".encode())
                span.append(len(self._groups))
                self._groups.append(_RowGroup(number, group, first_row, metadata.num_rows))
                first_row += metadata.num_rows
                if group + 1 == file.num_row_groups or first_row - self._groups[span[0]].first_row >= SCAN_ROWS:
                    numbers = [self._groups[position].number for position in span]
                    table = file.read_row_groups(numbers, columns=columns.texts, use_threads=False)
                    self._index_rows(columns, span, table, digest, taken)
                    span = []

    def _index_rows(
        self, columns: Columns, span: list[int], table: pa.Table, digest: "hashlib._Hash", taken: "_Taken"
    ) -> None:
        """Index the rows of some row groups that stand side by side."""
        captions, keys, groups, statuses = (
            _values(table, name) for name in (columns.caption, columns.key, columns.group, columns.status)
        )
        places = ((position, row) for position in span for row in range(self._groups[position].rows))
        for at, (group, row) in enumerate(places):
            if columns.status and statuses[at] != "success":
                self.text_only += 1
                continue
            key = self._place(group, row)
            try:
                key = self._key(keys[at], group, row)
                caption, label = _text(captions[at]), _text(groups[at])
                if caption is None:
                    raise BadPair("no caption")
                clean_caption(caption)
            except BadPair as bad:
                self.rejected.append(Rejected(key, self._place(group, row), bad.reason, bad.detail))
                continue
            for part in (key, caption, label or ""):
                told = part.encode("utf-8", "surrogatepass")
                digest.update(len(told).to_bytes(8, "little") + told)
            taken.add(key)
            self._group.append(group)
            self._row.append(row)

    def _key(self, value: Any, group: int, row: int) -> str:
        where = self._groups[group]
        return _text(value) or f"{self._labels[where.file]}/{where.first_row + row}"

    def _place(self, group: int, row: int) -> str:
        where = self._groups[group]
        return f"{self._names[where.file]}[{where.first_row + row}]"

    def _plain_key(self, index: int) -> str:
        group, row = self._group[index], self._row[index]
        columns = self._columns[self._groups[group].file]
        return self._key(_value(self._read(group, columns.texts), columns.key, row), group, row)

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        where = self._groups[group]
        return self._reader.read(self.files[where.file], where.number, columns)


class _RowGroupReader:
    """Reads row groups and keeps the last few of them, and the last few files open.

    Threads take turns: two that ask for the same row group share one reading. A pickled copy opens the files anew.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, pq.ParquetFile] = OrderedDict()
        self._kept: dict[str, OrderedDict[tuple[Path, int], pa.Table]] = {}  # by the first column that is read
        self._lock = threading.Lock()

    def read(self, path: Path, group: int, columns: list[str]) -> pa.Table:
        """Some columns of one row group.

        Raises:
            BadPair: "missing" or "unreadable".
        """
        with self._lock:
            kept = self._kept.setdefault(columns[0], OrderedDict())
            if (path, group) not in kept:
                kept[path, group] = self._read(path, group, columns)
                size = sum(table.nbytes for table in kept.values())
                # two at least: threads cross from one to the next
                while len(kept) > 2 and (size > KEEP_BYTES or len(kept) > KEEP_GROUPS):
                    size -= kept.popitem(last=False)[1].nbytes
            kept.move_to_end((path, group))
            return kept[path, group]

    def _read(self, path: Path, group: int, columns: list[str]) -> pa.Table:
        try:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = pq.ParquetFile(path)
                while len(self._files) > KEEP_OPEN:
                    self._files.popitem(last=False)[1].close()
            self._files.move_to_end(path)
            return file.read_row_group(group, columns=columns, use_threads=False)
        except FileNotFoundError:
            raise BadPair("missing", str(path)) from None
        except (OSError, pa.ArrowException, KeyError, IndexError) as error:
            raise BadPair("unreadable", f"{path}: {_reason(error)}") from None

    def __reduce__(self) -> tuple[type["_RowGroupReader"], tuple[()]]:
        return type(self), ()


class _Taken:
    """Which keys occur more than once; in 8 bytes a pair until that is known."""

    def __init__(self) -> None:
        self._hashes, self._numbered = array("Q"), array("Q")

    def add(self, key: str) -> None:
        if "#" in key:  # may look like another's number
            self._numbered.append(len(self._hashes))
        self._hashes.append(_hash(key))

    def occurrences(self, key_of: Callable[[int], str]) -> dict[int, int]:
        """Index -> which occurrence of its key it is, where that is not the first: the first number that is free."""
        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else np.empty(0, np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        repeated = np.flatnonzero(np.isin(hashes, values[counts > 1]))
        if not len(repeated):
            return {}
        found: dict[int, int] = {}
        last: dict[str, int] = {}
        for index in np.union1d(repeated, np.array(self._numbered, np.int64)).tolist():
            key = key_of(index)
            occurrence = last.get(key, 0) + 1
            if occurrence > 1:
                while f"{key}#{occurrence}" in last:
                    occurrence += 1
                last[f"{key}#{occurrence}"] = 1
                found[index] = occurrence
            last[key] = occurrence
        return found


def _values(table: pa.Table, column: str) -> list[Any]:
    """A column's values; BadPair in place of one that is no text, None everywhere without such a column."""
    if not column:
        return [None] * table.num_rows
    values = table.column(column)
    try:
        found: list[Any] = values.to_pylist()
    except UnicodeDecodeError:
        return [_value(table, column, row) for row in range(table.num_rows)]
    return found


def _value(table: pa.Table, column: str, row: int) -> Any:
    """One value; BadPair if it is no text, None if there is none."""
    if not column or row >= table.num_rows:
        return None
    try:
        return table.column(column)[row].as_py()
    except UnicodeDecodeError:
        return BadPair("not UTF-8")


def _text(value: Any) -> str | None:
    """A value as text; raises the BadPair that it may be."""
    if isinstance(value, BadPair):
        raise value
    return None if value is None else str(value)


def _picture_bytes(group: Any, column: str) -> int:
    """The uncompressed size of a row group's pictures."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What cannot be read, in one line."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as parquet ({_reason(error)}): is it whole?") from None


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number:
        return os.strerror(number)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
