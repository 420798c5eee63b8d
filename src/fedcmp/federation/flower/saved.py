"""A strategy's checkpoint: all that a restarted ServerApp continues from, in one file, written whole or not at all.

state/NAME     the tensors after the last round
rule/NAME      what the rule remembers
header         the rule, the round, the metrics of all rounds, of which round each node continues
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import MetricRecord
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.files import cannot_be_written
from fedcmp.wire.files import read_message, write_message
from fedcmp.wire.naming import joined, parted

_VERSION = 1
Tensors = dict[str, Tensor]
History = dict[str, dict[int, MetricRecord]]  # a field of Flower's Result -> round -> metrics


@dataclass
class Saved:
    """What a checkpoint holds.

    Attributes:
        round: rounds finished; 0 after an opening round.
        state: the tensors after it.
        memory: what the rule remembers.
        history: metrics of the rounds so far.
        kept: node -> the round whose state it continues from.
    """

    round: int
    state: Tensors
    memory: Tensors
    history: History = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)


class CheckpointFile:
    """A strategy's checkpoint.

    Args:
        path: the file; None: nothing is kept.
        rule: what the file must be of.
    """

    def __init__(self, path: Path | None, rule: str) -> None:
        self.path, self._rule = path, rule

    def save(self, saved: Saved) -> None:
        """Write the file; on disk when this returns.

        Raises:
            UserError: it cannot be written.
        """
        if self.path is None:
            return
        header = {
            "strategy": _VERSION,
            "rule": self._rule,
            "round": saved.round,
            "history": {
                what: {str(number): dict(record) for number, record in rounds.items()}
                for what, rounds in saved.history.items()
            },
            "kept": {str(node): number for node, number in saved.kept.items()},
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_be_written(self.path, error) from None
        write_message(self.path, header, joined(state=saved.state, rule=saved.memory))

    def load(self, initial: Mapping[str, Tensor]) -> Saved | None:
        """Return what the file holds; None where there is none.

        Args:
            initial: the tensors that a new run would begin with.

        Raises:
            UserError: the file is damaged, or of another rule or model.
        """
        if self.path is None or not self.path.exists():
            return None
        anew = "name another checkpoint, or remove this one to begin anew"
        try:
            header, tensors = read_message(self.path)
            parts, _ = parted("checkpoint", tensors, plain=("state", "rule"), labelled=())
            saved = _from_header(header, parts["state"], parts["rule"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.path}: is no checkpoint of AggregatorStrategy ({error}): {anew}") from error
        if header["rule"] != self._rule:
            raise UserError(f"{self.path}: is a checkpoint of {header['rule']}, not of {self._rule}: {anew}")
        for name in [*initial, *saved.state]:
            found, wanted = saved.state.get(name), initial.get(name)
            if found is None or wanted is None or (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
                raise UserError(
                    f"{self.path}: its tensor {name} is {_kind(found)}, the app's is {_kind(wanted)}: {anew}"
                )
        saved.state = {name: saved.state[name] for name in initial}
        return saved


def _from_header(header: Mapping[str, Any], state: Tensors, memory: Tensors) -> Saved:
    if header["strategy"] != _VERSION:
        raise ValueError(f"version {header['strategy']}")
    return Saved(
        round=int(header["round"]),
        state=state,
        memory=memory,
        history={
            what: {int(number): MetricRecord(record) for number, record in rounds.items()}
            for what, rounds in header["history"].items()
        },
        kept={int(node): int(number) for node, number in header["kept"].items()},
    )


def _kind(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
