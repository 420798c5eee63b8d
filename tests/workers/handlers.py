"""Handlers for the tests of worker processes: they stand for the real ones."""

import ctypes
import os
import threading
import time
from pathlib import Path

from fedcmp.errors import UserError

print("a library that prints while it is loaded")


def echo(*arguments):
    """Answer each job by what it holds, slowly, badly or not at all where it says so."""
    if arguments == ("unusable",):
        raise UserError("the factory found a mistake")

    def answer(header, tensors):
        print("a library that prints")
        if "die" in header:
            os._exit(header["die"])
        if "mistake" in header:
            raise UserError(header["mistake"])
        if "bug" in header:
            raise KeyError(header["bug"])
        time.sleep(header.get("seconds", 0))
        ctypes.PyDLL(None).sleep(header.get("holding", 0))  # as a library that does not let go of Python's lock
        if "file" in header:
            with Path(header["file"]).open("a") as log:
                log.write("done\n")
        return header | {"arguments": list(arguments), "process": os.getpid()}, tensors

    return answer


def study():
    """Answer a study's tasks as a record of their numbers."""
    answer = echo()
    return lambda header, tensors: ({"record": answer(header, tensors)[0]}, {})


def together(count):
    """Begin jobs as they come; none is finished before `count` are begun."""
    begun = threading.Semaphore(0)

    def begin(header, tensors):
        begun.release()

        def finish():
            if not header["number"]:
                for _ in range(int(count)):
                    if not begun.acquire(timeout=30):
                        raise TimeoutError("too few jobs at hand")
            return header, tensors

        return finish

    return begin
