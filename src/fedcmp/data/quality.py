"""What becomes of bad pairs: each is counted, named and skipped, up to a stated share; past it the run stops.

A pair is bad if its record, its caption or its image cannot be used. The reason is one of a few fixed words, so that
they can be counted:

    record    malformed record, no image, several images, path outside the folder, no caption, empty caption, not UTF-8
    tar       no image, no caption, several images, several captions, torn shard
    embedding not finite
    image     missing, empty file, not a file, unreadable, not an image, truncated, damaged, too large, too large after
              resizing, unsupported mode, git-lfs pointer, changed
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from fedcmp.errors import UserError
from fedcmp.terminal import shortened

logger = logging.getLogger("fedcmp.data")

_HINTS = {
    "missing": "check the images folder",
    "git-lfs pointer": "fetch the images (`git lfs pull`)",
    "changed": "do not change the images while they are used",
}
_LONGEST_DETAIL = 1000  # characters
NAMED_A_REASON = 10  # later pairs with the same reason go to the log file and to the debug level only


class BadPair(Exception):  # noqa: N818 - names the pair's state; it is caught and counted, never shown as an error
    """One pair cannot be used.

    Attributes:
        reason: one of the fixed words in the module's list.
        detail: what exactly, for the log; may be empty, and is shortened where it is very long.
    """

    def __init__(self, reason: str, detail: str = ""):
        detail = shortened(detail, _LONGEST_DETAIL)
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type["BadPair"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class Rejected(NamedTuple):
    """A bad pair as the ledger keeps it.

    Attributes:
        key: the pair's key, or the best name there is for it.
        place: where a person finds it, such as "pairs.json[17] images/a.png".
        reason: one of the fixed words in the module's list.
        detail: what exactly; may be empty.
    """

    key: str
    place: str
    reason: str
    detail: str = ""


class BadPairs:
    """The ledger of one source's (or one client's) bad pairs.

    It stops a pass as soon as the bad pairs outnumber what `max_bad_fraction` of all pairs allows, which is when the
    final share is certain to be too high. A run of bad pairs at the start of a large source therefore stops nothing,
    and the verdict at the end of the pass is exact without another check: bad / total <= max_bad_fraction.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        max_bad_fraction: float,
        log_path: Path | None = None,
        setting: str = "data.max_bad_fraction",
    ):
        """Open the ledger.

        Args:
            name: the source or client, for messages.
            total: all pairs that the pass will meet, bad records included; at least 1.
            max_bad_fraction: share of `total` that may be bad, 0 to 1.
            log_path: a JSON-lines file (key, place, reason, detail), written anew; none if not given.
            setting: where the user says `max_bad_fraction`, for messages.

        Raises:
            ValueError: total or max_bad_fraction out of range.
        """
        if total < 1:
            raise ValueError(f"total = {total}: must be at least 1")
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction = {max_bad_fraction}: must be between 0 and 1")
        self.name, self.total, self.max_bad_fraction, self.log_path = name, total, max_bad_fraction, log_path
        self._setting = setting
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self._log: TextIO | None = None
        if log_path is not None:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = log_path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)

    def __len__(self) -> int:
        return len(self.rejected)

    def add(self, bad: Rejected) -> None:
        """Count one bad pair, name it in the log file and on the logger, and stop if there are now too many.

        Raises:
            UserError: more than max_bad_fraction of all pairs are bad; names the counts by reason, the first three
                places and the mend.
        """
        level = logging.WARNING if self.counts[bad.reason] < NAMED_A_REASON else logging.DEBUG
        logger.log(level, "%s: skipped %s: %s", self.name, bad.place, describe(bad))
        self.recall([bad])

    def recall(self, bad_pairs: Iterable[Rejected]) -> None:
        """Count pairs that an earlier pass has named on the logger; raises as `add` does."""
        for bad in bad_pairs:
            self.rejected.append(bad)
            self.counts[bad.reason] += 1
            if self._log is not None:
                self._log.write(json.dumps(bad._asdict(), ensure_ascii=False) + "\n")
        if len(self.rejected) > self.max_bad_fraction * self.total:
            raise UserError(self._verdict())

    def close(self) -> None:
        """Close the log file and say in one line how many pairs were skipped."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self.rejected:
            logger.warning("%s: skipped %d of %d pairs: %s", self.name, len(self), self.total, self.summary())

    def summary(self) -> str:
        """Return the counts by reason, most frequent first: "40 missing, 17 truncated"."""
        return ", ".join(f"{count} {reason}" for reason, count in self.counts.most_common())

    def _verdict(self) -> str:
        first = "; ".join(f"{bad.place} ({bad.reason})" for bad in self.rejected[:3])
        log = f"; all so far are named in {self.log_path}" if self.log_path else ""
        hint = "fix or remove them"
        for reason, better in _HINTS.items():
            if self.counts[reason] * 2 > len(self):
                hint = better
        return (
            f"{self.name}: at least {len(self)} of {self.total} pairs are bad, more than {self._setting} = "
            f"{self.max_bad_fraction:g} allows: {self.summary()}; first: {first}{log}; {hint}, or raise "
            f"{self._setting}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe(bad: Rejected) -> str:
    """Return "reason (detail)", or the reason alone."""
    return f"{bad.reason} ({bad.detail})" if bad.detail else bad.reason
