"""The report's tables: sizes in the form of the paper's table 9, silhouettes, heterogeneity, each client's numbers."""

import statistics
from collections.abc import Sequence

from fedcmp.report.methods import ordered, write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.scenario.records import METRICS, Client, Scenario, Shown
from fedcmp.report.scenario.saying import sharp_in_own, sharpest_metric, sharpest_scenario
from fedcmp.report.tables import Cell, Column, Row, Table

MOST_COLUMNS = 12  # clients with a column each; of more, the spread is shown
_DASH = Cell("–")


def sizes_table(shown: Shown) -> Table:
    """Return one row per scenario, one column per client: pairs that it trains on."""
    largest = max((client.pairs for one in shown.scenarios for client in one.clients), default=0) or 1
    if shown.most_clients <= MOST_COLUMNS:
        heads = [Column(shown.client_title(k), "pairs", colour=client_colour(k)) for k in range(shown.most_clients)]
        cells = [_own_sizes(one, shown.most_clients, largest) for one in shown.scenarios]
    else:
        heads = [Column("Clients"), *(Column(title, "pairs") for title in ("Smallest", "Median", "Largest"))]
        cells = [_spread(one) for one in shown.scenarios]
    heads += [*(Column(title, "pairs") for title in ("In all", "Held out", "Pruned")), Column("Rounds")]
    rows = [Row((Cell(one.name), *own, *_totals(one))) for one, own in zip(shown.scenarios, cells, strict=True)]
    notes = (
        f"Pairs that a client trains on, of {write_number(shown.pairs, 0)} in the collection. Held out: kept by the "
        "clients for evaluation. Pruned: over the cap, the ones furthest from their centroid.",
    )
    return Table((Column("Scenario", numeric=False), *heads), tuple(rows), "Pairs by client", notes)


def _own_sizes(one: Scenario, columns: int, largest: int) -> list[Cell]:
    found = [Cell(write_number(c.pairs, 0), c.pairs, bar=c.pairs / largest) for c in one.clients]
    return found + [_DASH] * (columns - len(found))


def _spread(one: Scenario) -> list[Cell]:
    sizes = [client.pairs for client in one.clients]
    return [_count(value) for value in (len(sizes), min(sizes), statistics.median(sizes), max(sizes))]


def _totals(one: Scenario) -> list[Cell]:
    trained, held_out, pruned = (sum(column) for column in zip(*map(_counts, one.clients), strict=True))
    rounds = sorted({len(client.rounds) for client in one.clients})
    cells = [_count(value) for value in (trained, held_out, pruned)]
    return [*cells, Cell(" / ".join(map(str, rounds)), rounds[-1])]


def _counts(client: Client) -> tuple[int, int, int]:
    return client.pairs, client.held_out, client.pruned


def _count(value: float) -> Cell:
    return Cell(write_number(value, 0), value)


def silhouette_table(shown: Shown) -> Table:
    """Return scenarios by metrics, tinted by value; a scenario's highest in bold, and whether it is its own metric."""
    values = [value for one in shown.scenarios for value in one.silhouette.values() if value is not None]
    top = max(values, default=0.0)
    rows = []
    for one in shown.scenarios:
        best, sharp = sharpest_metric(one), sharp_in_own(one)
        said = "–" if sharp is None else "yes" if sharp else f"no: {best}"
        cells = [_silhouette(one, metric, top, bold=metric == best) for metric in METRICS]
        rows.append(Row((Cell(one.name), *cells, Cell(said, bold=sharp is True))))
    if len(shown.scenarios) > 1:
        leaders = [sharpest_scenario(shown, metric) for metric in METRICS]
        names = [Cell(leader.name if leader is not None else "–") for leader in leaders]
        rows.append(Row((Cell("sharpest scenario"), *names, Cell("")), reference=True))
    heads = (
        Column("Scenario", numeric=False),
        *(Column(f"by {metric}") for metric in METRICS),
        Column("Sharpest in its own?", numeric=False),
    )
    note = (
        f"Mean silhouette (Rousseeuw 1987) of {write_number(shown.sample, 0)} sampled pairs: 1 where clients lie "
        "apart, 0 where they are mixed. A row's highest is in bold; own marks the similarity that the scenario was cut "
        "by."
    )
    if len(shown.scenarios) > 1:
        note += (
            " Values of one row are measured with different distances, those of one column with the same: the last "
            "row says which scenario is the sharpest by each."
        )
    return Table(heads, tuple(rows), "Silhouette by scenario and metric", (note,), apart=True, stacked=True)


def _silhouette(one: Scenario, metric: str, top: float, *, bold: bool) -> Cell:
    value = one.silhouette[metric]
    if value is None:
        return _DASH
    shade = max(value, 0.0) / top if top > 0 else None
    return Cell(write_number(value, 3), value, "own" if metric == one.metric else "", bold, shade=shade)


def heterogeneity_table(shown: Shown) -> Table:
    """Return scenarios by measures of how unlike the clients are."""
    rows = []
    for one in shown.scenarios:
        gaps = [_gap(one, metric) for metric in METRICS]
        apart = [_frechet(one, metric) for metric in METRICS[:3]]
        known = [client.alignment for client in one.clients if client.alignment is not None]
        lowest, highest = (min(known), max(known)) if known else (None, None)
        text = (
            write_number(lowest, 3) if lowest == highest else f"{write_number(lowest, 3)} to {write_number(highest, 3)}"
        )
        rows.append(Row((Cell(one.name), *gaps, *apart, Cell(text, lowest))))
    heads = (
        Column("Scenario", numeric=False),
        *(Column(f"Gap by {metric}") for metric in METRICS),
        *(Column(f"Fréchet of {metric}") for metric in METRICS[:3]),
        Column("Alignment"),
    )
    notes = (
        "Gap: mean similarity of pairs of one client less that of pairs of two (in brackets), 0 for random shares.",
        "Fréchet: mean squared distance between Gaussian fits to two clients' embeddings; in brackets the same for "
        "random shares of the same sizes, which is what few pairs give by themselves.",
        "Alignment: mean similarity of an image to its own caption, lowest to highest client.",
    )
    return Table(heads, tuple(rows), "How unlike the clients are", notes, stacked=True)


def _gap(one: Scenario, metric: str) -> Cell:
    known = one.similarity.get(metric)
    if known is None or known["gap"] is None:
        return _DASH
    detail = f"({write_number(known['within'], 3)} / {write_number(known['between'], 3)})"
    return Cell(write_number(known["gap"], 3), known["gap"], detail)


def _frechet(one: Scenario, metric: str) -> Cell:
    value, random = one.frechet[metric]["clients"], one.frechet[metric]["random"]
    return _DASH if value is None else Cell(write_number(value, 3), value, f"({write_number(random, 3)})")


def clients_table(shown: Shown) -> Table:
    """Return one row per client of each scenario: what it holds, and its words."""
    rows = [_client_row(one, number) for one in shown.scenarios for number in range(len(one.clients))]
    heads = (
        Column("Client", numeric=False),
        Column("Scenario", numeric=False),
        *(Column(title, "pairs") for title in ("Trains on", "Held out", "Pruned")),
        Column("Round by round", numeric=False),
        Column("Alignment"),
        Column("Telling words", "z", numeric=False),
    )
    notes = (
        f"Words by weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008) from "
        f"{write_number(shown.captions, 0)} captions, z at least 1.96.",
    )
    return Table(heads, tuple(rows), "Each client's numbers", notes if shown.captions else ()).without_empty_columns()


def _client_row(one: Scenario, number: int) -> Row:
    client = one.clients[number]
    words = ", ".join(f"{word} {write_number(z, 1)}" for word, z in client.words)
    counts = [_count(value) for value in _counts(client)]
    name = Cell(f"{number} {client.name}", colour=client_colour(number))
    aligned = Cell(write_number(client.alignment, 3), client.alignment)
    return Row((name, Cell(one.name), *counts, Cell(rounds_text(client.rounds)), aligned, Cell(words or "–")))


def rounds_text(rounds: Sequence[int]) -> str:
    """Return the sizes of a client's rounds in few words: "10 rounds of 3 200"."""
    if not rounds:
        return "–"
    low, high = write_number(min(rounds), 0), write_number(max(rounds), 0)
    return f"{len(rounds)} round{'s' if len(rounds) != 1 else ''} of {low if low == high else f'{low} to {high}'}"


def made_table(shown: Shown) -> Table:
    """Say how each scenario was cut: one row an option or version, one column a scenario."""
    tables = [
        ("", [one.options for one in shown.scenarios]),
        ("version of ", [one.versions for one in shown.scenarios]),
    ]
    rows = []
    for prefix, owns in tables:
        for key in ordered(key for own in owns for key in own):
            values = [_value(own.get(key)) for own in owns]
            if any(value != "–" for value in values):
                rows.append(Row((Cell(prefix + key.replace("_", " ")), *map(Cell, values))))
    objective = [one.facts.get("objective") for one in shown.scenarios]
    if any(isinstance(value, float) for value in objective):
        cells = (Cell(write_number(v, 4) if isinstance(v, float) else "–") for v in objective)
        rows.insert(0, Row((Cell("objective, mean similarity to the centroid"), *cells)))
    heads = (Column("Option", numeric=False), *(Column(one.name, numeric=False) for one in shown.scenarios))
    return Table(heads, tuple(rows), "How the scenarios were cut")


def _value(value: object) -> str:
    if value is None or value == []:
        return "–"
    return write_number(value, 0) if type(value) is int and abs(value) < 10**9 else str(value)
