"""Read the results of a run as numbers: a pandas DataFrame where pandas is installed, else a table of our own."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

Value = str | float | int | bool | None
UNITS = {
    "method": "",
    "federated": "",
    "finished": "",
    "seeds": "",
    "caption_loss": "nats/token",
    "caption_loss_sd": "nats/token",
    "shuffled_loss": "nats/token",
    "worst_group_loss": "nats/token",
    "worst_group": "",
    "question_accuracy": "0 to 1",
    "bytes_sent": "bytes",
    "seconds": "s",
}


@dataclass(frozen=True)
class ResultTable:
    """Hold the figures of each method, one row per method; a notebook shows it as a table.

    Attributes:
        rows: column -> value of each method, in the order of the report: federated methods by caption loss, then the
            references. None where a figure was not measured. The columns are those of a DataFrame that `Run.table` is
            where pandas is installed.
    """

    rows: tuple[Mapping[str, Value], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Value]]:
        return iter(self.rows)

    def __getitem__(self, method: str) -> Mapping[str, Value]:
        """Return the row of one method.

        Raises:
            KeyError: names the methods that there are.
        """
        for row in self.rows:
            if row["method"] == method:
                return row
        raise KeyError(f"{method!r}; there are {', '.join(str(row['method']) for row in self.rows)}")

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame whose index is the method.

        Raises:
            UserError: pandas is not installed.
        """
        from fedcmp.extras import require

        require("pandas", "pandas", "Run.table as a DataFrame")
        import pandas

        frame = pandas.DataFrame.from_records(list(self.rows), columns=list(UNITS)).set_index("method")
        return frame.astype({name: float for name, unit in UNITS.items() if unit})  # what is missing is NaN

    def __repr__(self) -> str:
        lines = [self._headers(), *self._texts()]
        widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
        padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
        return "\n".join("  ".join(line).rstrip() for line in padded)

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self._texts())
        return f"<table><thead>{row(self._headers(), 'th')}</thead><tbody>{body}</tbody></table>"

    def _headers(self) -> list[str]:
        return [f"{name} ({unit})" if unit else name for name, unit in UNITS.items()]

    def _texts(self) -> list[list[str]]:
        return [[_text(row[name]) for name in UNITS] for row in self.rows]


def result_table(folder: Path) -> ResultTable:
    """Read the figures of all methods in a run's folder.

    Args:
        folder: a run's folder, or one that holds several runs.

    Raises:
        UserError: no run in it, or a file that is damaged.
    """
    from fedcmp.report.comparison import BLIND, INITIAL, Comparison
    from fedcmp.report.methods import ACCURACY, CAPTION_LOSS, SHUFFLED, WORST_GROUP, reference_value
    from fedcmp.runs.reading import load_runs

    methods = Comparison.of(load_runs(folder)).methods
    rows: list[dict[str, Value]] = []
    for method in methods:
        figures = [method.value(metric) for metric in (CAPTION_LOSS, WORST_GROUP, ACCURACY, SHUFFLED)]
        loss, worst, accuracy, shuffled = (None if figure is None else figure.mean for figure in figures)
        rows.append(
            {
                "method": method.label,
                "federated": method.federated,
                "finished": method.finished,
                "seeds": len(method.counted),
                "caption_loss": loss,
                "caption_loss_sd": figures[0].spread if figures[0] and figures[0].over == "seeds" else None,
                "shuffled_loss": shuffled,
                "worst_group_loss": worst,
                "worst_group": method.worst_group() or None,
                "question_accuracy": accuracy,
                "bytes_sent": _mean([run.num_bytes for run in method.counted]),
                "seconds": _mean([run.seconds for run in method.counted]),
            }
        )
    for model in (BLIND, INITIAL):
        figures = [reference_value(methods, model, metric) for metric in (CAPTION_LOSS, WORST_GROUP, ACCURACY)]
        if figures[0] is not None:
            loss, worst, accuracy = (None if figure is None else figure.mean for figure in figures)
            row: dict[str, Value] = dict.fromkeys(UNITS)
            row |= {"method": model, "federated": False, "finished": True, "seeds": figures[0].count}
            row |= {"caption_loss": loss, "caption_loss_sd": figures[0].spread}
            rows.append(row | {"worst_group_loss": worst, "question_accuracy": accuracy})
    return ResultTable(tuple(rows))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _text(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "diverged" if not math.isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value
