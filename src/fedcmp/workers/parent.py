"""A process that ends with the one that started it."""

import ctypes
import os
import signal
import sys


def end_with_parent(parent: int | None = None) -> None:
    """Let the system kill this process when the one that started it ends (Linux: PR_SET_PDEATHSIG).

    Args:
        parent: the starting process's number, where it is known: if it has ended already, so does this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(0)
