"""A deployment's models are judged on the sites' own held-out pairs: tensors out, sums of losses in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedcmp.deployment.exchange import Head, Wanted
from fedcmp.deployment.sites import Sites
from fedcmp.evaluation.captions import caption_metrics, merge_sums
from fedcmp.runs.records import Evaluation
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_messages import Judged, Judging


class SitesEvaluator:
    """Measures on the sites' own held-out pairs: they send sums (federation.rounds.Evaluator).

    Args:
        method: of the run.
        sites: the talks with them.
        seconds: how long a site may take; None: as long as it needs.
        clock: of `sites`.
        shared: the references of all methods of the run, once they are measured; default: its own.
    """

    def __init__(
        self,
        method: str,
        sites: Sites,
        *,
        seconds: float | None,
        clock: Callable[[], float],
        shared: list[Evaluation] | None = None,
    ) -> None:
        self._method, self._sites = method, sites
        self._seconds, self._clock = seconds, clock
        self._shared = [] if shared is None else shared

    def references(self, initial: Tensors) -> list[Evaluation]:
        """Evaluation records of the blind LLM and of the initial tensors."""
        if not self._shared:
            self._shared += [*self._measured({}, 0, "blind"), *self._measured(initial, 0, "initial")]
        return list(self._shared)

    def evaluations(self, states: Mapping[str, Tensors], round_number: int, *, last: bool) -> list[Evaluation]:
        """Evaluation records after a round: of the global model."""
        del last
        return self._measured(states["global"], round_number, "global")

    def samples(self, states: Mapping[str, Tensors]) -> None:
        """Write nothing: the sites' images stay there."""

    def _measured(self, state: Tensors, number: int, model: str) -> list[Evaluation]:
        blind = model == "blind"

        def make(head: Head) -> Judging:
            return Judging(**vars(head), method=self._method, round=number, blind=blind, state=state)

        until = None if self._seconds is None else self._clock() + self._seconds
        members = sorted(self._sites.register.members)
        found: dict[int, Judged] = {}
        for client, answer in self._sites.ask(dict.fromkeys(members, make), fits=_is_judged, until=until):
            if isinstance(answer, Judged):
                found[client] = answer
        return [self._record([found[client] for client in sorted(found)], number, model)] if found else []

    def _record(self, parts: Sequence[Judged], number: int, model: str) -> Evaluation:
        sums = [{group: (part.losses[group], part.tokens[group]) for group in part.losses} for part in parts]
        metrics: dict[str, Any] = caption_metrics(merge_sums(sums))
        return Evaluation(
            round=number,
            client=None,
            model=model,
            split="held out",
            captions=sum(part.captions for part in parts),
            seconds=sum(part.seconds for part in parts),
            **metrics,
        )


def _is_judged(_client: int, answer: Wanted) -> str:
    return "" if isinstance(answer, Judged) else "a reply, where losses were asked for"


class NoEvaluator:
    """Measures nothing (federation.rounds.Evaluator): for a server without pairs, whose sites do not judge."""

    def references(self, initial: Tensors) -> list[Evaluation]:
        """Return no records."""
        del initial
        return []

    def evaluations(self, states: Mapping[str, Tensors], round_number: int, *, last: bool) -> list[Evaluation]:
        """Return no records."""
        del states, round_number, last
        return []

    def samples(self, states: Mapping[str, Tensors]) -> None:
        """Write nothing."""
