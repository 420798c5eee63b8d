"""Sites over time, of runs in which some were late, missing or refused: who took part, and what happened when.

Shown where a run has records of its sites (a deployment), or a round that closed without some of its clients.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fedcmp.report.charts.marks import Kind, MarkChart
from fedcmp.report.clientcurves import site_panels
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import MethodEntry, write_number
from fedcmp.report.palette import GLYPHS, client_colour
from fedcmp.report.panels import WIDE, Mark, Panel
from fedcmp.report.rendering import Pointer
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.runs.reading import Run
from fedcmp.runs.records import ClientRound, SiteEvent

_KINDS = (
    Kind("in time", "var(--soft)", "circle"),
    Kind("in time, after a fault", "var(--m6)", "diamond"),
    Kind("late", "var(--m5)", "triangle"),
    Kind("refused", "var(--m4)", "square"),
    Kind("no reply", "var(--m2)", "cross"),
)
_IN, _AFTER, _LATE, _REFUSED, _NONE = range(len(_KINDS))
_MOST_ROWS, _MOST_EVENTS, _MOST_REASONS = 30, 200, 3
_MB = 1e6


@dataclass(frozen=True)
class _Site:
    """What the records of a run tell of one site, by round; `number` is the client's, for its colour."""

    name: str
    number: int
    replies: dict[int, ClientRound] = field(default_factory=dict)
    missed: set[int] = field(default_factory=set)
    events: dict[int, list[SiteEvent]] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> dict[int, int]:
        """Round -> what became of the site in it, for rounds that it had a part in."""
        rounds = sorted({*self.replies, *self.missed, *self.events})
        return {number: kind for number in rounds if (kind := self._kind(number)) is not None}

    def _kind(self, number: int) -> int | None:
        reply = self.replies.get(number)
        happened = {line.event for line in self.events.get(number, [])}
        if reply is not None:
            return _REFUSED if reply.refused else _AFTER if happened & {"lost", "asked again", "rejoined"} else _IN
        if number in self.missed or happened & {"late", "missing", "refused"}:
            return _LATE if "late" in happened else _REFUSED if "refused" in happened else _NONE
        return None

    @property
    def faults(self) -> int:
        """Count the rounds that did not go as they should."""
        return sum(kind != _IN for kind in self.kinds.values())

    def count(self, event: str) -> int:
        """Count how often something happened."""
        return sum(line.event == event for lines in self.events.values() for line in lines)

    def tip(self, number: int) -> str:
        """Say what a mark says when it is pointed at."""
        reply = self.replies.get(number)
        after = f", after {reply.arrived:,.1f} s" if reply is not None and reply.arrived is not None else ""
        why = [reply.refused] if reply is not None and reply.refused else []
        why += [f"{line.event} {line.detail}".strip() for line in self.events.get(number, []) if line.event != "asked"]
        said = "; ".join([f"{_KINDS[self.kinds[number]].text}{after}", *why[:_MOST_REASONS]])
        return f"{self.name}, round {number}: {said}"


def _sites(run: Run) -> list[_Site]:
    """The sites of a run in the clients' order, then those that only a round's missing ones tell of."""
    numbers = {line.name: line.client for line in run.holdings}
    numbers |= {line.name: line.client for line in run.client_rounds}
    numbers |= {line.name: line.client for line in run.site_events if line.client is not None}
    for name in sorted({name for line in run.server_rounds for name in line.missing} - set(numbers)):
        numbers[name] = len(numbers)
    found = {name: _Site(name, number) for name, number in sorted(numbers.items(), key=lambda one: one[1])}
    for reply in run.client_rounds:
        found[reply.name].replies[reply.round] = reply
    for line in run.server_rounds:
        for name in line.missing:
            found[name].missed.add(line.round)
    for event in run.site_events:
        if event.name in found:  # else of one that is no client of the run
            found[event.name].events.setdefault(event.round, []).append(event)
    return list(found.values())


def _noted(comparison: Comparison) -> list[tuple[MethodEntry, list[_Site]]]:
    """The methods whose sites there is something to tell of; of several seeds the first, as in other small charts."""
    runs = [(method, method.counted[0]) for method in comparison.federated]
    told = [(m, run) for m, run in runs if run.site_events or any(line.missing for line in run.server_rounds)]
    found = [(method, _sites(run)) for method, run in told]
    return [(method, sites) for method, sites in found if any(site.kinds for site in sites)]


def sites_section(comparison: Comparison) -> dict[str, object]:
    """Return the section's parts: participation per method, small charts, the table, events; empty where none is."""
    noted = _noted(comparison)
    if not noted:
        return {}
    return {
        "panels": [_panel(f"sites{index}", comparison, *one) for index, one in enumerate(noted)],
        "charts": site_panels(comparison),
        "table": sites_table(comparison),
        "events": _events_table([method for method, _ in noted]),
    }


def sites_pointer(comparison: Comparison) -> Pointer | None:
    """Name the site that missed most rounds."""
    found = [(sum(k >= _LATE for k in s.kinds.values()), s, m) for m, sites in _noted(comparison) for s in sites]
    if not found:
        return None
    missed, site, method = max(found, key=lambda one: one[0])
    return (
        Pointer(f"“{site.name}” missed {missed} of its {len(site.kinds)} rounds of {method.label}.", "sites")
        if missed
        else None
    )


def sites_table(comparison: Comparison) -> Table | None:
    """Return one row per site and method: rounds, faults, times and bytes; None where nothing was noted."""
    noted = _noted(comparison)
    if not noted:
        return None
    columns = (
        *(Column("Site", numeric=False), Column("Method", numeric=False), Column("In time", "rounds")),
        *(Column("Late", "rounds"), Column("Refused", "rounds"), Column("No reply", "rounds")),
        *(Column("Link lost", "times"), Column("Came back", "times"), Column("Reply", "s, median")),
        *(Column("Slowest", "s"), Column("Sent", "MB"), Column("Received", "MB")),
    )
    rows = [Row(tuple(_cells(site, method.label if len(noted) > 1 else "–"))) for method, s in noted for site in s]
    notes = (
        "In time: the reply was there when the round closed, and was merged. Late: it came afterwards. Seconds are "
        "counted from the round's opening. Sent and received: the encoded tensors of replies that were in time.",
    )
    return Table(columns, tuple(rows), "Sites over all rounds", notes).without_empty_columns()


def _cells(site: _Site, method: str) -> list[Cell]:
    kinds, lines = list(site.kinds.values()), list(site.replies.values())
    arrived = [line.arrived for line in lines if line.arrived is not None]
    counts = [kinds.count(kind) for kind in (_LATE, _REFUSED, _NONE)] + [site.count("lost"), site.count("rejoined")]
    times = (statistics.median(arrived), max(arrived)) if arrived else (None, None)
    sizes = sum(line.bytes_up for line in lines), sum(line.bytes_down for line in lines)
    within = kinds.count(_IN) + kinds.count(_AFTER)
    return [
        Cell(site.name, colour=client_colour(site.number)),
        Cell(method),
        Cell(write_number(within, 0), within, f"of {len(kinds)}"),
        *(Cell(write_number(count or None, 0), count) for count in counts),
        *(Cell(write_number(value, 1), value) for value in times),
        *(Cell(write_number(size / _MB if size else None, 2), size) for size in sizes),
    ]


def _panel(key: str, comparison: Comparison, method: MethodEntry, sites: Sequence[_Site]) -> Panel:
    """Draw who took part; where there are many sites, those with most faults."""
    chosen = {site.name for site in sorted(sites, key=lambda site: -site.faults)[:_MOST_ROWS]}
    shown = [site for site in sites if site.name in chosen]
    marks = [(row, n, kind, site.tip(n)) for row, site in enumerate(shown) for n, kind in site.kinds.items()]
    chart = MarkChart(f"Sites of {method.label} by round", tuple(site.name for site in shown), _KINDS, tuple(marks))
    note = f"The {len(shown)} of {len(sites)} sites with most faults." if len(shown) < len(sites) else ""
    legend = [(GLYPHS[kind.marker], kind.colour, kind.text) for kind in chart.legend]
    palette, subtitle = comparison.palette, "what became of each site's part of a round"
    swatch = Mark(palette.colour(method.label), palette.glyph(method.label), method.label)
    return Panel(key, method.label, subtitle, chart, WIDE, note, swatch, legend=legend)


def _events_table(methods: Sequence[MethodEntry]) -> Table | None:
    """List what happened, but for the sending of assignments; the last of it where it is much."""
    told = [(method.label if len(methods) > 1 else "–", e) for method in methods for e in method.counted[0].site_events]
    rows = [
        Row(
            (
                *(Cell(str(event.round), event.round), Cell(event.name), Cell(event.event)),
                *(Cell(write_number(event.seconds, 1), event.seconds), Cell(event.detail or "–"), Cell(label)),
            )
        )
        for label, event in told
        if event.event != "asked"
    ]
    if not rows:
        return None
    columns = (
        *(Column("Round"), Column("Site", numeric=False), Column("What happened", numeric=False)),
        *(Column("After", "s"), Column("Detail", numeric=False), Column("Method", numeric=False)),
    )
    more = len(rows) - _MOST_EVENTS
    notes = (f"The last {_MOST_EVENTS}; {more} before them are in metrics.jsonl.",) if more > 0 else ()
    title = f"What happened, event by event ({len(rows)})"
    return Table(columns, tuple(rows[-_MOST_EVENTS:]), title, notes).without_empty_columns()
