"""A deployment's rounds meet their sites: assignments out, replies in; at the end what was trained goes to all.

    a site of the server   Training      a Reply back
    an edge server         Delegating    for all of its sites; a PartialSum back

A site that the server has to invite first, or that its edge had no reply of in the last round, is asked by itself: the
others beneath its edge do not wait for it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from fedcmp.aggregation import Public
from fedcmp.config.methods import Chosen
from fedcmp.deployment.exchange import Head, Maker, Wanted, training
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.sites import Sites
from fedcmp.federation.edge import delegations
from fedcmp.runs.folder import Checkpoint
from fedcmp.version import __version__
from fedcmp.wire.edge_messages import AnyReply, Delegation, PartialSum, parts_of
from fedcmp.wire.edge_requests import Delegating
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.site_messages import Handover, Judged, Kept

_KINDS: dict[type, str] = {Reply: "a reply", PartialSum: "a sum", Judged: "losses", Kept: "a receipt"}


class SitesTransport:
    """Assignments to sites and edges (federation.rounds.Transport).

    Args:
        method: of the run.
        chosen: its server rule.
        sites: the talks with them, over an EdgeLink.
        notes: what happens to messages.
        edges: edge -> names of the sites beneath it; none: all reply to the server.
        public: returns what contributions to the open round depend on.
        least: replies that are waited for, even past a round's deadline: federation.min_clients.
        clock: of `sites`.
    """

    def __init__(
        self,
        method: str,
        chosen: Chosen,
        sites: Sites,
        notes: SiteNotes,
        *,
        edges: Mapping[str, Sequence[str]],
        public: Callable[[], Public],
        least: int,
        clock: Callable[[], float],
    ) -> None:
        self._method, self._chosen, self._sites, self._notes = method, chosen, sites, notes
        self._names = sites.register.names
        numbers = {name: client for client, name in enumerate(self._names)}
        self._edges = {edge: frozenset(numbers[name] for name in names) for edge, names in edges.items()}
        self._beneath = frozenset(client for clients in self._edges.values() for client in clients)
        self._public, self._least, self._clock = public, least, clock

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[AnyReply]:
        """See Transport.exchange. A round does not close with fewer replies than the server merges.

        Edges close a little earlier than the server.
        """
        seconds = None if until is None else max(0.0, until - self._clock())
        for number in {assignment.round for assignment in assignments.values()}:
            self._notes.open(self._method, number, seconds=seconds)
        for client in assignments:
            (self._notes.done if client in done else self._notes.asked)(client)
        wanted = {client: assignment for client, assignment in assignments.items() if client not in done}
        groups = self._groups(wanted)
        asked = {client: assignment for client, assignment in wanted.items() if client not in self._beneath}
        given = delegations(wanted, {str(first): clients for first, clients in groups.items()}, self._public())
        makers = {client: training(self._method, assignment) for client, assignment in asked.items()}
        makers |= {int(first): self._delegating(delegation, until) for first, delegation in given.items()}

        def fits(client: int, answer: Wanted) -> str:
            if not isinstance(answer, PartialSum if client in self._beneath else Reply):
                return f"{_KINDS[type(answer)]}, where {'a reply' if client in asked else 'a sum'} was asked for"
            if strangers := {part.client for part in parts_of(answer)} - groups.get(client, {client}):
                return f"its reply names another client, {min(strangers)}"
            first = assignments[client]
            if (answer.round, answer.measure_only) != (first.round, first.measure_only):
                return f"its reply is of another round, {answer.round}"
            return ""

        least = min(self._least, len(assignments)) - len(done)
        for client, answer in self._sites.ask(makers, fits=fits, until=until, least=least):
            if isinstance(answer, Reply | PartialSum):
                there = {part.client for part in parts_of(answer)}
                for part in there:
                    self._notes.done(part)
                for missing in sorted(groups.get(client, frozenset()) - there):
                    self._notes.note(missing, "missing", "no reply at its edge server")
                    self._sites.forget(missing)
                yield answer

    def _groups(self, wanted: Collection[int]) -> dict[int, frozenset[int]]:
        """Return who is asked together, by the first of them."""
        found: dict[int, frozenset[int]] = {}
        for clients in self._edges.values():
            here = clients & frozenset(wanted)
            known = frozenset(client for client in here if self._sites.is_placed(client))
            for together in (known, *(frozenset({client}) for client in sorted(here - known))):
                if together:
                    found[min(together)] = together
        return found

    def _delegating(self, delegation: Delegation, until: float | None) -> Maker:
        names = tuple(self._names[client] for client in sorted(delegation.continues))

        def make(head: Head) -> Delegating:
            return Delegating(
                **vars(head),
                release=__version__,
                method=self._method,
                rule=self._chosen.aggregator,
                rule_options=self._chosen.options,
                sites=names,
                seconds=None if until is None else max(0.0, until - self._clock()),
                delegation=delegation,
            )

        return make


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
