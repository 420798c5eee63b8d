"""A site's own log of what left it: one JSON line for every message, on disk before the message goes."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from fedcmp.files import cannot_be_written
from fedcmp.runs.records import timestamp
from fedcmp.wire.files import message_hash
from fedcmp.wire.payload import wire_bytes
from fedcmp.wire.site_messages import Frame


class SentLog:
    """sent.jsonl: when, in which run, which message, what it held, how many bytes, a hash of them.

    Args:
        path: the file; lines are only ever added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, frame: Frame, *, run: str, what: Sequence[str]) -> None:
        """Note a message that is about to leave.

        Raises:
            UserError: it cannot be noted; then the message must not go.
        """
        header, tensors = frame
        text = json.dumps(header)
        line: dict[str, object] = {
            "time": timestamp(),
            "run": run,
            "message": header["message"],
            "what": list(what),
            "bytes": len(text) + wire_bytes(tensors),
            "sha256": message_hash(text, tensors) if tensors else hashlib.sha256(text.encode()).hexdigest(),
        }
        line |= {key: header[key] for key in ("round", "reason") if key in header}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_be_written(self._path, error) from error
