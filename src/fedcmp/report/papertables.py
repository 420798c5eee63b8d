"""The paper's tables 3, 4, 6 and 9 as tables of a report, with an empty cell for whatever was not run here."""

from fedcmp.report.paper import ARXIV, BY_HETEROGENEITY, METHODS, paper
from fedcmp.report.tables import Cell, Column, Row, Table

_PARTS = ("CSC", "RWF", "OPM")
_EMPTY = "–"


def further_tables() -> list[Table]:
    """Return the ablation, the reliability weights, tuning after pretraining, and the clients' sizes."""
    return [_ablation(), _reliability(), _tuning(), _sizes()]


def _ablation() -> Table:
    table = paper().ablation
    rows = [
        Row(
            (
                Cell(" + ".join(parts) or "none"),
                *(Cell("✓" if part in parts else "·") for part in _PARTS),
                *(Cell(f"{score:.1f}", score) for score in scores),
                Cell(_EMPTY),
            )
        )
        for parts, scores in table.rows
    ]
    columns = (
        Column("Parts", numeric=False),
        *(Column(part, numeric=False) for part in _PARTS),
        *(Column(name, "%", better="high") for name in table.columns),
        Column("Here"),
    )
    return Table(columns, tuple(rows), "The paper's table 3: parts of Fed-CMP, image clusters", (_note(table.note),))


def _reliability() -> Table:
    table = paper().reliability
    rows = [
        Row((Cell(label), *(Cell(f"{score:.1f}", score) for score in scores), Cell(_EMPTY)))
        for label, scores in table.rows
    ]
    heads = (Column("Weights", numeric=False), *(Column(name, "%", better="high") for name in table.columns))
    caption = "The paper's table 4: reliability weights, image clusters"
    return Table((*heads, Column("Here")), tuple(rows), caption, (_note(table.note),))


def _tuning() -> Table:
    table, data = paper().tuning, paper().tuning_data
    rows = []
    for name, scores, about in (("GQA", table.GQA, data.GQA), ("OCRVQA", table.OCRVQA, data.OCRVQA)):
        for title, own in (("FedAvg", scores.fedavg), ("FedAvg-TIEs", scores.ties), ("Fed-CMP", scores.fedcmp)):
            cells = [Cell(f"{score:.1f}", score) for score in own]
            rows.append(Row((Cell(f"{name} ({about.metric}), {title}"), *cells, Cell(_EMPTY))))
    clients = tuple(Column(f"Client {number}", "%", better="high") for number in range(1, 6))
    caption = "The paper's table 6: tuned further from each method's projector"
    pairs = f"Pairs (table 5): GQA {data.GQA.total}, OCRVQA {data.OCRVQA.total}."
    heads = (Column("Data, method", numeric=False), *clients, Column("Here"))
    return Table(heads, tuple(rows), caption, (_note(table.note), pairs))


def _sizes() -> Table:
    table = paper().sizes
    rows = []
    for scenario in BY_HETEROGENEITY:
        shares = zip(table.clusters[scenario], table.percent[scenario], strict=True)
        rows.append(Row((Cell(scenario), *(Cell(f"{pairs} ({share:g} %)") for pairs, share in shares), Cell(_EMPTY))))
    clients = tuple(Column(f"Client {number}", "pairs", numeric=False) for number in range(1, 6))
    caption = "The paper's table 9: pairs of each client"
    setup = paper().setup
    told = f"{setup.vision} and {setup.language}, {setup.clients} clients, {setup.rounds} rounds; {setup.hardware}."
    heads = (Column("Scenario", numeric=False), *clients, Column("Here", numeric=False))
    return Table(heads, tuple(rows), caption, (f"{ARXIV}. {told}", f"Methods: {', '.join(METHODS)}."))


def _note(text: str) -> str:
    return f"{ARXIV}: {text}."
