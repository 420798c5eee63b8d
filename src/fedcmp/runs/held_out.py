"""Losses of the held-out captions one by one: what a report compares two models by when there is one seed.

METHOD/held_out.json    {"round", "split", "tokens": [..], "losses": {"blind": [..], "global": [..]}}

`tokens` counts each caption's tokens, `losses` are sums over them in nats, both in the order of the held-out pairs;
`round` is that of "global". Clients' own models (local-only runs) are left out.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.runs.fields import number, table, text, whole

HELD_OUT = "held_out.json"
_DIGITS = 6  # of a loss: more than any comparison needs


@dataclass(frozen=True)
class HeldOut:
    """The captions' losses of one run, by model; every list has one entry per caption."""

    round: int
    split: str
    tokens: tuple[int, ...]
    losses: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def add(cls, folder: Path, who: str, round_number: int, split: str, scored: Sequence[tuple[float, int]]) -> None:
        """Write one model's losses to a run's folder; those of other models stay if they are of the same captions.

        Args:
            folder: of the run.
            who: "blind" or "global".
            round_number: after which the model was evaluated.
            split: which pairs these are.
            scored: summed loss and tokens of each caption.
        """
        tokens = tuple(count for _, count in scored)
        try:
            kept = cls.read(folder)
        except UserError:  # a damaged file is replaced
            kept = None
        others = kept.losses if kept is not None and (kept.split, kept.tokens) == (split, tokens) else {}
        # JSON lacks NaN and infinity: null says that a model diverged
        own = [float(f"{loss:.{_DIGITS}g}") if math.isfinite(loss) else None for loss, _ in scored]
        losses = {**others, who: own}
        content = {"round": round_number, "split": split, "tokens": tokens, "losses": losses}
        write_whole(folder / HELD_OUT, json.dumps(content, separators=(",", ":")).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> "HeldOut | None":
        """Read a run's losses; None where it has none, or where its lists do not belong together.

        Raises:
            UserError: the file cannot be read, or is not JSON.
        """
        path = folder / HELD_OUT
        if not path.is_file():
            return None
        try:
            content = table(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON ({error}); remove it, the report does without") from error
        counts = [whole(entry) for entry in _list(content.get("tokens"))]
        tokens = tuple(count for count in counts if count is not None and count > 0)
        models = {text(who): [number(loss) for loss in _list(own)] for who, own in table(content.get("losses")).items()}
        losses = {who: tuple(x for x in own if x is not None and math.isfinite(x)) for who, own in models.items()}
        whole_ones = {who: own for who, own in losses.items() if len(own) == len(models[who]) == len(tokens)}
        if not tokens or len(tokens) != len(counts):
            return None
        return cls(whole(content.get("round")) or 0, text(content.get("split")), tokens, whole_ones)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
