"""Datasets as parquet files that the `datasets` library reads like a hub's: pictures inside, column types beside them.

A picture is stored as {"bytes", "path"} and marked as an image in the schema's metadata; everything else is plain.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedcmp.errors import UserError
from fedcmp.files import write_whole

Row = Mapping[str, Any]
PICTURES = ("image", "images")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ROWS_A_GROUP = 256  # so that a reader need not hold all pictures at once


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as one parquet file, whole or not at all.

    Args:
        path: in an existing folder.
        rows: at least one; what one does not have is null there. Under "image" a picture's bytes (PNG, JPEG), or a
            list of them; otherwise text, whole numbers, numbers, or lists of text.

    Raises:
        UserError: the file cannot be written, or a column holds values of several kinds.
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("a dataset without rows")
    columns, features = {}, {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name], features[name] = _pictures(values) if name in PICTURES else _plain(values)
        except (pa.ArrowException, TypeError) as error:
            raise UserError(f"{path.name}: {name}: values of several kinds ({str(error).splitlines()[0]})") from error
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=_ROWS_A_GROUP)
    write_whole(path, sink.getvalue().to_pybytes())


def _pictures(values: list[Any]) -> tuple[pa.Array, dict[str, Any]]:
    def stored(value: bytes) -> dict[str, Any]:
        return {"bytes": value, "path": None}

    if isinstance(values[0], list):
        found = [[stored(one) for one in several] for several in values]
        return pa.array(found, pa.list_(_IMAGE)), {"feature": {"_type": "Image"}, "_type": "List"}
    return pa.array([stored(value) for value in values], _IMAGE), {"_type": "Image"}


def _plain(values: list[Any]) -> tuple[pa.Array, dict[str, Any]]:
    column = pa.array(values)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if pa.types.is_list(column.type):
        return column, {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    dtype = {"double": "float64"}.get(str(column.type), str(column.type))
    return column, {"dtype": dtype, "_type": "Value"}


def read_json_rows(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON or JSONL file, pictures read from the paths that it gives, relative to its folder.

    Raises:
        UserError: no records, a record without a picture, or a picture that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else [json.loads(t) for t in text.splitlines() if t.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(found, list) or not found or not all(isinstance(record, dict) for record in found):
        raise UserError(f"{path}: must be a list of records, or one record a line")
    return [_with_pictures(record, path, number) for number, record in enumerate(found, 1)]


def _with_pictures(record: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    given = record.get("image")
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]
    if not names or (isinstance(given, list) and len(names) < len(given)):
        raise UserError(f'{path} record {number}: "image" must be a path relative to {path.parent}, or a list of them')
    read = []
    for name in names:
        try:
            read.append((path.parent / name).read_bytes())
        except OSError as error:
            raise UserError(f"{path} record {number}: {name} cannot be read ({error.strerror})") from error
    return record | {"image": read if isinstance(given, list) else read[0]}
