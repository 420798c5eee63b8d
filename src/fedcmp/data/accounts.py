"""Where every pair of a source went: pairs read = used + refused by reason + not used by rule.

Refused pairs are losses, and count against max_bad_fraction (`quality`); those that a rule leaves out are not. What
stands beside used pairs and is not read either (later turns of a conversation, files of a test split) is counted apart.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fedcmp.data.quality import Rejected, logger
from fedcmp.data.source import PairSource

TEXT_ONLY, NOT_DOWNLOADED = "text only", "not downloaded"
MOST_REASONS = 12  # that are told apart; members of tars may have any endings
BEYOND, NOT_IN_SCENARIO, SET_ASIDE = "beyond data.num_pairs", "not in the scenario", "set aside by the recipe"


@dataclass(frozen=True)
class Account:
    """One collection's pairs.

    Attributes:
        name: of the source.
        usable: pairs that can be used, or are not known to be bad yet.
        refused: how many could not be used, by reason.
        unused: how many a rule leaves out, by reason.
        ignored: what stands beside the pairs and is not read, by reason.
    """

    name: str
    usable: int
    refused: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """All pairs of the collection."""
        return self.usable + sum(self.refused.values()) + sum(self.unused.values())

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not (self.refused or self.unused or self.ignored)

    def line(self) -> str:
        """Return the account in one line for people."""
        told = [f"{self.name}: {self.read:,} pairs read, {self.usable:,} usable"]
        told += [f"{sum(some.values()):,} {how} ({reasons(some)})" for how, some in self._left_out() if some]
        beside = ", ".join(f"{what} ({count:,})" for what, count in _most(self.ignored).items())
        return ", ".join(told) + (f"; not read beside them: {beside}" if beside else "")

    def _left_out(self) -> tuple[tuple[str, Mapping[str, int]], ...]:
        return ("refused", self.refused), ("not used", self.unused)


def account_of(source: PairSource, bad: Iterable[Rejected] = ()) -> Account:
    """Return a source's account.

    Args:
        source: the pairs.
        bad: those of its pairs whose images turned out unusable.
    """
    found = list(bad)
    refused = Counter(problem.reason for problem in [*source.rejected, *found])
    return Account(
        source.name,
        len(source) - len(found),
        _most(refused),
        _most(source.unused),
        _most(source.ignored),
    )


def log_accounts(accounts: Sequence[Account]) -> None:
    """Log one line for every account in which something is left out."""
    for account in accounts:
        if not account.complete:
            logger.warning("%s", account.line())


def reasons(counts: Mapping[str, int]) -> str:
    """Return counts by reason, most frequent first: "40 missing, 17 truncated"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in _most(counts).items())


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts that are not 0, most frequent first; the rarest of very many together."""
    ordered = sorted(((reason, count) for reason, count in counts.items() if count), key=lambda entry: -entry[1])
    rest = sum(count for _, count in ordered[MOST_REASONS:])
    return dict(ordered[:MOST_REASONS]) | ({"others": rest} if rest else {})
