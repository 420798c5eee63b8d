"""The server's link where some sites are beneath edge servers: what is for such a site goes to its edge.

A request for a site is wrapped as a Relay, and its answer is the site's own. What is for the edge itself, a Delegating,
is sent under the name of any of its sites.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from fedcmp.federation.flower.link import Link, Lost
from fedcmp.terminal import shortened, shown
from fedcmp.wire.edge_requests import Delegating, Relay, Unreached
from fedcmp.wire.naming import MessageError
from fedcmp.wire.site_messages import Frame

_GRACE = 30.0  # seconds that a relayed message takes longer


class EdgeLink:
    """A Link over another one, to edges and sites.

    Args:
        link: reaches edges, and sites that are beneath none.
        edges: edge -> the names of the sites beneath it.
    """

    def __init__(self, link: Link, edges: Mapping[str, Sequence[str]]) -> None:
        self._link, self._edges = link, edges
        self._edge_of = {site: edge for edge, sites in edges.items() for site in sites}

    def online(self) -> frozenset[str]:
        """See Link.online; a site counts as reached where its edge is."""
        found = self._link.online()
        beneath = {site for site, edge in self._edge_of.items() if edge in found}
        return (found - self._edges.keys()) | beneath

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        """See Link.push."""
        edge = self._edge_of.get(site)
        if edge is None:
            return self._link.push(site, frame, seconds=seconds)
        if frame[0]["message"] != Delegating.message:
            frame = Relay(site, frame).to_tensors()
        return self._link.push(edge, frame, seconds=seconds + _GRACE)

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        """See Link.pull."""
        for number, frame in self._link.pull(sent):
            if not isinstance(frame, Lost) and frame[0].get("message") == "unreached":
                yield number, _lost(frame)
            else:
                yield number, frame


def _lost(frame: Frame) -> Lost:
    try:
        return Lost(shortened(shown(Unreached.from_tensors(*frame).reason), 300))
    except MessageError as error:
        return Lost(f"malformed answer of an edge: {error}")
