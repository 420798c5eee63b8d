"""The process that reads parquet files for this one (`parquet_child`): pyarrow ends its process on some damaged files.

All sources of a process share one; it is started when first needed, and again after a file has ended it.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa

MAX_GROUP_BYTES = 2**31  # of images in one row group: as much is read at a time
_CHILD = Path(__file__).with_name("parquet_child.py")
_MEMORY = 6 * MAX_GROUP_BYTES  # of addresses, in that process


class ParquetError(Exception):
    """A file cannot be read.

    Attributes:
        kind: "missing" or "unreadable".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ParquetProcess:
    """Asks the process and waits for its answer; threads take turns."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def describe(self, path: Path, columns: list[str]) -> tuple[pa.Schema, list[dict[str, Any]]]:
        """Return a file's schema, and of each row group: rows, and size and nulls (or None) of some columns' leaves.

        Raises:
            ParquetError: it cannot be read.
        """
        header, schema = self._ask(op="open", path=str(path), columns=columns)
        return pa.ipc.read_schema(pa.py_buffer(schema)), header["groups"]

    def read(self, path: Path, groups: list[int], columns: list[str]) -> pa.Table:
        """Read some columns of some row groups.

        Raises:
            ParquetError: they cannot be read.
        """
        _, stream = self._ask(op="read", path=str(path), groups=groups, columns=columns)
        with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
            return reader.read_all()

    def absent(self, path: Path, group: int, column: str) -> list[int]:
        """Return the rows of a row group that hold no image.

        Raises:
            ParquetError: they cannot be read.
        """
        header, _ = self._ask(op="absent", path=str(path), group=group, column=column)
        return list(header["rows"])

    def forget(self) -> None:
        """Start anew, in a forked copy: the process, and whoever held the lock, belong to the original."""
        self._process, self._lock = None, threading.Lock()

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()

    def _ask(self, **request: Any) -> tuple[dict[str, Any], bytes]:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                header = json.loads(process.stdout.readline() or b"null")
                payload = process.stdout.read(header["bytes"]) if header else b""
            except BrokenPipeError:
                header, payload = None, b""
            if header is None or len(payload) < header["bytes"]:
                self._process = None
                raise ParquetError("unreadable", _ended(process))
        if "error" in header:
            raise ParquetError(header["kind"], header["error"])
        return header, payload

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-P", str(_CHILD), str(_MEMORY)]  # -P: no module of its folder shadows another
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
        return self._process


def _ended(process: subprocess.Popen[bytes]) -> str:
    """What is told of a process that a file has ended."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
    code = process.wait()
    how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    return f"pyarrow ended on it, {how}"


PARQUET = ParquetProcess()
atexit.register(PARQUET.close)
os.register_at_fork(after_in_child=PARQUET.forget)
