"""A deployment's rounds meet their sites: assignments out, replies in; models out, sums of losses in."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from fedcmp.deployment.exchange import Head, Wanted, training
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.sites import Sites
from fedcmp.evaluation.captions import caption_metrics, merge_sums
from fedcmp.runs.folder import Checkpoint
from fedcmp.runs.records import Evaluation
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_messages import Handover, Judged, Judging, Kept


class SitesTransport:
    """Assignments to the sites (federation.rounds.Transport).

    Args:
        method: of the run.
        sites: the talks with them.
        notes: what happens to messages.
        least: replies that are waited for, even past a round's deadline: federation.min_clients.
        clock: of `sites`.
    """

    def __init__(self, method: str, sites: Sites, notes: SiteNotes, *, least: int, clock: Callable[[], float]) -> None:
        self._method, self._sites, self._notes, self._least = method, sites, notes, least
        self._clock = clock

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        """See Transport.exchange. A round does not close with fewer replies than the server merges."""
        seconds = None if until is None else max(0.0, until - self._clock())
        for number in {assignment.round for assignment in assignments.values()}:
            self._notes.open(self._method, number, seconds=seconds)
        for client in assignments:
            (self._notes.done if client in done else self._notes.asked)(client)
        wanted = {client: training(self._method, each) for client, each in assignments.items() if client not in done}
        least = min(self._least, len(assignments)) - len(done)

        def fits(client: int, answer: Wanted) -> str:
            if not isinstance(answer, Reply):
                return f"{'losses' if isinstance(answer, Judged) else 'a sum'}, where a reply was asked for"
            if answer.client != client:
                return f"its reply names another client, {answer.client}"
            asked = assignments[client]
            if (answer.round, answer.measure_only) != (asked.round, asked.measure_only):
                return f"its reply is of another round, {answer.round}"
            return ""

        for client, answer in self._sites.ask(wanted, fits=fits, until=until, least=least):
            if isinstance(answer, Reply):
                self._notes.done(client)
                yield answer


class SitesEvaluator:
    """Measures on the sites' own held-out pairs: they send sums (federation.rounds.Evaluator).

    Args:
        method: of the run.
        sites: the talks with them.
        seconds: how long a site may take; None: as long as it needs.
        clock: of `sites`.
    """

    def __init__(self, method: str, sites: Sites, *, seconds: float | None, clock: Callable[[], float]) -> None:
        self._method, self._sites = method, sites
        self._seconds, self._clock = seconds, clock

    def references(self, initial: Tensors) -> list[Evaluation]:
        """Evaluation records of the blind LLM and of the initial tensors."""
        return [*self._measured({}, 0, "blind"), *self._measured(initial, 0, "initial")]

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


def hand_over(method: str, sites: Sites, last: Checkpoint, *, seconds: float) -> None:
    """Hand every site what was trained, to keep; one that is not there by then gets it when the run is served again.

    Args:
        method: of the run.
        sites: the talks with them.
        last: the last round's checkpoint.
        seconds: how long is waited for all of them.
    """
    state = last.projectors["global"]

    def make(head: Head) -> Handover:
        return Handover(**vars(head), method=method, round=last.round, state=state)

    members = sorted(sites.register.members)

    def fits(_client: int, answer: Wanted) -> str:
        return "" if isinstance(answer, Kept) else "an answer to something else"

    for _ in sites.ask(dict.fromkeys(members, make), fits=fits, until=sites.after(seconds)):
        pass


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
