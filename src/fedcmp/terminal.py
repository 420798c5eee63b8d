"""Words of others on a terminal: file names, ids, model names and captions are shown, never obeyed.

A file name may hold escape sequences that recolour or clear a screen, line breaks that forge a line of their own, or
marks that reverse the reading order. Errors, progress, tables and logs pass through `shown`, which spells them out.
"""

import logging
import sys
import unicodedata

_JOINERS = "\u200c\u200d"  # invisible, and needed to write some scripts and emoji
_LEFT_OUT = " ... "
_HARMLESS = ("Zs", "Co", "Cn")  # spaces, private letters, letters newer than this Python


def shown(text: str) -> str:
    """Return a text as one line that a terminal shows as it is.

    Args:
        text: may hold anything.

    Returns:
        The text with control characters, line breaks, direction marks, invisible letters and halves of characters
        spelled out, as in "a\\x1b[31mb"; all else is left as it is. Doing it twice changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_plain(letter) else _spelled(letter) for letter in text)


def shortened(text: str, most: int = 2000) -> str:
    """Return a text of at most so many characters: of a longer one the middle is left out."""
    if len(text) <= most:
        return text
    kept = (most - len(_LEFT_OUT)) // 2
    return text[:kept] + _LEFT_OUT + text[-kept:]


def shown_lines(text: str) -> str:
    """Return a text of several lines, each as `shown` makes it; only a line feed ends a line."""
    return "\n".join(map(shown, text.split("\n")))


def log_to_stderr() -> None:
    """Send the log's warnings to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shown_lines(super().format(record)) if record.exc_info else shown(super().format(record))


def _is_plain(letter: str) -> bool:
    return letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) in _HARMLESS


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
