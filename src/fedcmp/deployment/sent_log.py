"""A site's own log of what left it: one JSON line for every message, on disk before the message goes."""

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from fedcmp.files import cannot_be_written
from fedcmp.runs.records import timestamp
from fedcmp.wire.frames import body_bytes, header_bytes
from fedcmp.wire.site_messages import Frame


class SentLog:
    """sent.jsonl: when, in which run, which message, what it held, how many bytes, their sha256.

    The bytes are those of the header and the body as they are handed to Flower (wire/frames.py). Any number of threads
    may add lines.

    Args:
        path: the file; lines are only ever added.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def add(self, frame: Frame, *, run: str, what: Sequence[str]) -> None:
        """Note a message that is about to leave.

        Raises:
            UserError: it cannot be noted; then the message must not go.
        """
        header, tensors = frame
        head, body = header_bytes(header), body_bytes(tensors)
        digest = hashlib.sha256(head)
        digest.update(body)
        line: dict[str, object] = {
            "time": timestamp(),
            "run": run,
            "message": header["message"],
            "what": list(what),
            "bytes": len(head) + len(body),
            "sha256": digest.hexdigest(),
        }
        line |= {key: header[key] for key in ("round", "reason") if key in header}
        try:
            with self._lock:
                self._append(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise cannot_be_written(self._path, error) from error

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a trainer was killed in the middle of its line
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
