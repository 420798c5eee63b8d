"""A process that reads parquet files for another one, since pyarrow may end on a damaged file: run as a script.

Requests are lines of JSON on stdin; answers, on stdout, are a line of JSON {"bytes": n, ...} and n bytes. It imports
nothing of the package, so that it starts fast, and ends with its parent: stdin is then at its end.

    {"op": "open", "path", "columns"}            -> its schema; "groups": rows, size and nulls of the columns' leaves
    {"op": "read", "path", "groups", "columns"}  -> an Arrow stream of these columns
    {"op": "absent", "path", "group", "column"}  -> "rows": those without an image
"""

import contextlib
import json
import os
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEEP_OPEN = 4
_files: OrderedDict[str, pq.ParquetFile] = OrderedDict()


def opened(path: str) -> pq.ParquetFile:
    """Open a file, or one of the last few again."""
    file = _files.get(path)
    status = Path(path).stat()
    now = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    if file is None or file.identity != now:
        file = _files[path] = pq.ParquetFile(path)
        file.identity = now
        while len(_files) > KEEP_OPEN:
            _files.popitem(last=False)[1].close()
    _files.move_to_end(path)
    return file


def describe(path: str, columns: list[str]) -> tuple[dict[str, Any], bytes]:
    """Return a file's row groups, and its schema's bytes."""
    file = opened(path)
    groups = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        leaves = {}
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema.split(".")[0] in columns:
                counts = chunk.statistics is not None and chunk.statistics.has_null_count
                nulls = chunk.statistics.null_count if counts else None
                leaves[chunk.path_in_schema] = [chunk.total_uncompressed_size, nulls]
        groups.append({"rows": group.num_rows, "leaves": leaves})
    return {"groups": groups}, file.schema_arrow.serialize().to_pybytes()


def read(path: str, groups: list[int], columns: list[str]) -> tuple[dict[str, Any], bytes]:
    """Return some columns of some row groups as an Arrow stream."""
    table = opened(path).read_row_groups(groups, columns=columns, use_threads=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return {}, sink.getvalue()


def absent(path: str, group: int, column: str) -> tuple[dict[str, Any], bytes]:
    """Return the rows of a row group that hold no image."""
    values = opened(path).read_row_group(group, columns=[column], use_threads=False).column(0)
    if pa.types.is_struct(values.type):
        values = pc.struct_field(values, "bytes")
    missing = pc.is_null(values)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        missing = pc.or_(missing, pc.equal(pc.fill_null(pc.list_value_length(values), 0), 0))
    return {"rows": [row for row, value in enumerate(missing.to_pylist()) if value]}, b""


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Do what a request asks for; what goes wrong is told in "error" and "kind"."""
    operations: dict[str, Callable[..., tuple[dict[str, Any], bytes]]]
    operations = {"open": describe, "read": read, "absent": absent}
    try:
        header, payload = operations[request.pop("op")](**request)
        return header | {"bytes": len(payload)}, payload
    except FileNotFoundError as error:
        return {"error": str(error), "kind": "missing", "bytes": 0}, b""
    except MemoryError:
        return {"error": "it asks for more memory than may be used", "kind": "unreadable", "bytes": 0}, b""
    except Exception as error:
        number = getattr(error, "errno", None)
        told = os.strerror(number) if number else (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"error": told, "kind": "unreadable", "bytes": 0}, b""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        header, payload = answer(json.loads(line))
        answers.write(json.dumps(header).encode() + b"\n")
        answers.write(payload)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(ValueError, OSError):  # a file may claim to hold any amount; a lower limit stays
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_AS)[1]))
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, sys.stdout.buffer)
