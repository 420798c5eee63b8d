"""lmms-eval's own command, changed so that an answer that was given once is not asked for again.

lmms-eval 0.7.3 writes its answers down only after the last of them, where the next process does not look, and under a
key that is made of settings which the model's code has changed by then. Here the model is asked piece by piece, on
copies of the requests; that processes find each other's answers is set by a variable (command.py). It is a script:

    python launch.py ARGUMENTS OF LMMS-EVAL      with a pipe as standard input: when it closes, this process ends
"""

import copy
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

PIECE = 16  # so many answers can be lost when a process is killed


class OnCopies:
    """A model that gets copies of the requests: llava_hf fills in their generation settings, which are in the key."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Callable[[list[Any]], Any]:
        return lambda requests: getattr(self._model, name)([_copied(request) for request in requests])


def _copied(request: Any) -> Any:
    made = copy.copy(request)
    made.arguments = tuple(dict(part) if isinstance(part, dict) else part for part in request.args)
    return made


def in_pieces(execute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The cache's `execute`, which keeps what it was asked before it returns, called for a few requests at a time."""

    def pieces(self: Any, lm: Any, kind: str, requests: list[Any]) -> list[Any]:
        answers: list[Any] = []
        for first in range(0, len(requests), PIECE):
            answers += execute(self, OnCopies(lm), kind, requests[first : first + PIECE])
        return answers

    return pieces


def end_with_parent() -> None:
    """End with all that was started here when standard input closes, whatever ended the process that holds it."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin: a thread that waits in it is fatal when Python ends
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run lmms-eval."""
    end_with_parent()
    from lmms_eval.caching.response_cache import ResponseCache

    ResponseCache.execute = in_pieces(ResponseCache.execute)
    # The log of answers also holds the empty ones of generations that failed; the cache itself does not.
    ResponseCache._replay_audit_log = lambda _cache: None
    sys.path[0] = ""  # as `python -m lmms_eval` has it
    runpy.run_module("lmms_eval", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
