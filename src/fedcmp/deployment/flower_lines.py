"""What Flower's processes print, made terse: our own lines pass, Flower's remarks stay in the log."""

import re

from fedcmp.terminal import shown

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^(?:[\d:.,TZ -]+)?(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL)\s*:\s*(.*)$")
_ACCESS = re.compile(r'"(GET|POST|PUT|DELETE) /')
_OF_NO_INTEREST = (
    "Successfully installed ",  # a ServerApp's folder, which holds no code
    "Failed to push task output",  # of a ServerApp whose SuperLink has died, which is said
)
_RAISED = "raised an exception"  # a traceback follows
_EXIT = "Exit Code: "  # and where Flower's pages explain it


def plain(line: str) -> str:
    """Return a line without colours."""
    return _ESCAPES.sub("", line)


class Terse:
    """Choose the lines of one process that a person is shown; the others stay in its log."""

    def __init__(self) -> None:
        self._in_traceback = False

    def __call__(self, line: str) -> str | None:
        """Return what to show of a line; None: nothing."""
        text = plain(line)
        found = _LEVEL.match(text)
        if found is None:
            unwanted = self._in_traceback or _ACCESS.search(text) or text.startswith(_OF_NO_INTEREST)
            return None if unwanted else shown(text.rstrip()) or None
        level, message = found.groups()
        self._in_traceback = _RAISED in message or message.startswith(_EXIT)
        if self._in_traceback or level not in ("ERROR", "CRITICAL") or message.startswith(_OF_NO_INTEREST):
            return None
        return shown(f"Flower: {message.strip()}") if message.strip() else None
