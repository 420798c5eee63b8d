"""The shape of every server rule: one round is begin(global), add(update) for each client, finish() -> next global.

Updates are folded in one at a time and forgotten.  Most rules are sums over clients (sum_rule.py): what a client adds
to the sums can then be computed by the client itself, and the server needs no more than the sums.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from fedcmp.aggregation.change import Change, settled
from fedcmp.aggregation.checks import check_global_state, check_update
from fedcmp.aggregation.update import ClientUpdate, Public
from fedcmp.wire.payload import Payload

AddsUp = Literal["in one exchange", "in two exchanges", "no"]


class Aggregator(ABC):
    """Base of every server rule.

    A rule takes any set of named floating point tensors.  It never changes its inputs, returns the global state's
    dtypes and devices but computes in float64, and ignores the order of clients up to rounding.  A refused add() leaves
    everything as it was, so a round may continue without that client.  A rule that is a sum over clients derives from
    `SumRule`; any other one implements `_begin`, `_add` and `_merge`.  One that remembers something between rounds also
    implements `_remember`, `_memory` and `_recall`.

    Attributes:
        adds_up: whether the rule is a sum over clients: "in one exchange" (contributions can be added up by anybody, in
            any tree), "in two exchanges" (clients would have to hear what the server makes of a first sum before they
            can give the second; not built, so contribution() refuses), or "no".
        needs: fields of ClientUpdate that the rule reads beyond `state` and `num_examples`; others need not be sent.
        extras: labels of ClientUpdate.extra that the rule reads, so that clients send no others.
        sends: labels of what it broadcasts besides the tensors once a round is over, none by default.
        public_payloads: label of `sends` -> its form on the way where not float32; broadcast() rounds to it already.
        extra_payload: the form in which clients send `extras`; None: as the recipe's payload says.
        opening: whether a round that only measures comes before the first: clients send nothing but the extras that
            the rule needs.
        round: rounds finished so far, the opening one counted in.
        last_weights: each client's share a_k of the last finished round, summing to 1, in the order of the accepted
            updates. Empty where only the sum of several clients is known.
        last_diagnostics: scalars of the last finished round, for the run's metrics.
    """

    adds_up: AddsUp = "no"

    def __init__(self) -> None:
        self.needs: frozenset[str] = frozenset()
        self.extras: frozenset[str] = frozenset()
        self.sends: frozenset[str] = frozenset()
        self.public_payloads: Mapping[str, Payload] = {}
        self.extra_payload: Payload | None = None
        self.opening = False
        self.round = 0
        self.last_weights: list[float] = []
        self.last_diagnostics: dict[str, float] = {}
        self._global: dict[str, Tensor] = {}
        self._offered = 0
        self._accepted = 0

    def aggregate(self, global_state: Mapping[str, Tensor], updates: Iterable[ClientUpdate]) -> dict[str, Tensor]:
        """Merge one round's updates: begin, add each, finish.

        Args:
            global_state: tensor name -> the global tensor that was broadcast.
            updates: the clients' updates; an iterator is read once, one update in memory at a time.

        Returns:
            Tensor name -> the next global tensor, with the names, order, shapes, dtypes and devices of global_state.

        Raises:
            ValueError: from begin, add or finish.
        """
        self.begin(global_state)
        for update in updates:
            self.add(update)
        return self.finish()

    def begin(self, global_state: Mapping[str, Tensor]) -> None:
        """Open a round; a round that was left unfinished is forgotten.

        Args:
            global_state: tensor name -> the global tensor that was broadcast. It is copied: the caller may train in
                place.

        Raises:
            ValueError: the state is empty or not finite, or does not fit what the rule remembers.
        """
        self._global = {}
        self._offered = self._accepted = 0
        check_global_state(global_state)
        copied = {name: tensor.detach().clone() for name, tensor in global_state.items()}
        self._begin(copied)
        self._global = copied

    def add(self, update: ClientUpdate) -> None:
        """Fold one client's update in.

        Args:
            update: the client's update. Its index in error messages counts the calls since begin(), from 0.

        Raises:
            ValueError: missing or extra tensors, wrong shapes, NaN or infinity, num_examples < 1, or a field that the
                rule needs is missing. The round stays as it was before the call.
            RuntimeError: no round is open.
        """
        self._require_open("add")
        place = f"client {self._offered}"
        self._offered += 1
        check_update(place, update, self._global)
        self._add(place, update)
        self._accepted += 1

    def public(self) -> Public:
        """Return what contributions of the open round depend on, besides the clients' own updates.

        Returns:
            The value to broadcast. It shares the round's tensors: do not write into them.

        Raises:
            RuntimeError: no round is open.
        """
        self._require_open("public")
        return Public(self._global, self.round, self._public_tensors(), self._public_scalars())

    def contribution(self, update: ClientUpdate, public: Public) -> dict[str, Tensor]:  # noqa: ARG002  # for SumRule
        """Return what one client adds to the sums; computed by the client, on any aggregator with the same options.

        Nothing but the two arguments and the options plays a part, and no round need be open.  add(update) is
        accumulate(contribution(update, public())), up to rounding.

        Args:
            update: the client's own update.
            public: what the server broadcasts for the round; see `public`.

        Returns:
            Name -> tensor, fresh. Tensors of the same name from several clients may be added up before accumulate().

        Raises:
            ValueError: the rule does not add up in one exchange (see `adds_up`), or as in add().
        """
        raise self._no_sum()

    def accumulate(self, contribution: Mapping[str, Tensor]) -> None:  # noqa: ARG002  # for SumRule
        """Fold in what one client adds to the sums, or several clients' contributions added up.

        With only a sum of several clients known, `last_weights` is empty, as no client's own share is known.

        Args:
            contribution: name -> tensor, as from contribution(), or the plain sums of equally named ones.

        Raises:
            ValueError: the rule does not add up in one exchange, or the tensors are not such sums: one is missing,
                extra, of another shape, or not finite. The round stays as it was before the call.
            RuntimeError: no round is open.
        """
        raise self._no_sum()

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Add a contribution to others, in place, as accumulate() does; for whoever sums on a server's behalf.

        Args:
            sums: name -> tensor, contributions added up so far; the first one's own tensors, say.
            contribution: equally named tensors.

        Raises:
            ValueError: the rule does not add up in one exchange.
        """
        raise self._no_sum()

    def finish(self) -> dict[str, Tensor]:
        """Close the round.

        Returns:
            Tensor name -> the next global tensor, as in `aggregate`.

        Raises:
            ValueError: no update was accepted, or the result does not fit the dtype; memory is left as it was.
            RuntimeError: no round is open.
        """
        self._require_open("finish")
        if self._accepted == 0:
            raise ValueError("round without clients: no update was accepted; add at least one before finish()")
        merged = self._merge()
        result = {name: settled(merged[name], start) for name, start in self._global.items()}
        for name, tensor in result.items():
            if tensor.numel() > 0 and not all(math.isfinite(edge) for edge in torch.aminmax(tensor)):
                raise ValueError(f"merged {name}: its values do not fit {tensor.dtype}; use a wider dtype")
        self._remember()
        self.round += 1
        self._global = {}
        return result

    def asked(self) -> frozenset[str]:
        """Return the labels of what clients are to send in the open round, or in the next one: mostly all `extras`."""
        return self.extras

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:  # noqa: ARG002  # for others
        """Return what the server sends to the clients besides the global tensors, ahead of a round: mostly nothing.

        Args:
            global_state: tensor name -> the global tensor that is about to be broadcast.

        Returns:
            Label -> tensor name -> tensor.

        Raises:
            ValueError: the state does not fit what the rule remembers.
        """
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the rule remembers between rounds, as of the last finished one.

        Returns:
            Name -> contiguous tensor, fit for safetensors; resuming from it is bit-identical.
        """
        memory = {"round": torch.tensor(self.round, dtype=torch.int64), **self._memory()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in memory.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up where another aggregator with the same options left off; an open round is forgotten.

        Args:
            state: what state_dict() returned.

        Raises:
            ValueError: an entry is missing, or is none of this rule's.
        """
        memory = {name: tensor.detach().clone() for name, tensor in state.items()}
        if "round" not in memory:
            raise ValueError("aggregator state: entry 'round' is missing; pass what state_dict() returned")
        finished = int(memory.pop("round"))
        self._recall(memory)
        self.round = finished
        self._global = {}

    def _require_open(self, call: str) -> None:
        if not self._global:
            raise RuntimeError(f"{call}() outside a round: call begin() first")

    def _no_sum(self) -> ValueError:
        is_twofold = self.adds_up == "in two exchanges"
        why = "adds up in two exchanges only, and a round has one" if is_twofold else "does not add up over clients"
        mend = "the server must see each client's update; choose a method that adds up in one exchange"
        return ValueError(f"{type(self).__name__} {why}: {mend} (docs/methods.md lists them)")

    def _public_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return the tensors that contributions need besides the global ones, in full precision."""
        return {}

    def _public_scalars(self) -> Mapping[str, float]:
        """Return the numbers that contributions need, finite ones only."""
        return {}

    def _change(self, update: ClientUpdate, public: Public) -> Change:
        """Return the change that the rule sees of a client's update."""
        return Change(update.state, public.state)

    @abstractmethod
    def _begin(self, global_state: dict[str, Tensor]) -> None:
        """Reset the running sums; raise ValueError if the state does not fit what is remembered."""

    @abstractmethod
    def _add(self, place: str, update: ClientUpdate) -> None:
        """Fold a checked update in; raise ValueError, starting with `place`, before anything is changed."""

    @abstractmethod
    def _merge(self) -> dict[str, Tensor]:
        """Return the next global state, and set last_weights and last_diagnostics; memory and sums stay.

        The tensors are float64, or fresh ones of the global state's own dtype.
        """

    def _remember(self) -> None:  # noqa: B027  # most rules remember nothing
        """Move what the next round needs into memory; called once the result is known to be good."""

    def _memory(self) -> dict[str, Tensor]:
        """Return what is remembered between rounds."""
        return {}

    def _recall(self, memory: dict[str, Tensor]) -> None:
        """Replace what is remembered, all or nothing."""
        if memory:
            raise ValueError(f"aggregator state: entry {next(iter(memory))!r} is not this method's")
