"""Row groups of parquet files, the last few of them kept; and their values, where some may be no text."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedcmp.data.parquet_process import PARQUET, ParquetError
from fedcmp.data.quality import BadPair

KEEP_BYTES, KEEP_GROUPS = 256 * 2**20, 64  # at most so much of images, and so much of captions


class RowGroupReader:
    """Reads row groups and keeps the last few of them.

    Threads take turns: two that ask for the same row group share one reading. A row group that could not be read is not
    tried again. A pickled copy begins without any.
    """

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[tuple[Path, int], pa.Table]] = {}  # by the first column that is read
        self._failed: dict[tuple[str, Path, int], BadPair] = {}
        self._lock = threading.Lock()

    def read(self, path: Path, group: int, columns: list[str]) -> pa.Table:
        """Read some columns of one row group.

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
        if problem := self._failed.get((columns[0], path, group)):
            raise BadPair(problem.reason, problem.detail)
        try:
            return PARQUET.read(path, [group], columns)
        except ParquetError as error:
            detail = f"{path}" if error.kind == "missing" else f"{path}: {error}"
            self._failed[columns[0], path, group] = BadPair(error.kind, detail)
            raise BadPair(error.kind, detail) from None

    def __reduce__(self) -> tuple[type["RowGroupReader"], tuple[()]]:
        return type(self), ()


def column_values(table: pa.Table, column: str) -> list[Any]:
    """Return a column's values; BadPair in place of one that is no text, None everywhere without such a column."""
    if not column:
        return [None] * table.num_rows
    try:
        found: list[Any] = table.column(column).to_pylist()
    except UnicodeDecodeError:
        return [row_value(table, column, row) for row in range(table.num_rows)]
    return found


def row_value(table: pa.Table, column: str, row: int) -> Any:
    """Return one value; BadPair if it is no text, None if there is none."""
    if not column or row >= table.num_rows:
        return None
    try:
        return table.column(column)[row].as_py()
    except UnicodeDecodeError:
        return BadPair("not UTF-8")
