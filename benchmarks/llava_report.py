"""The rows of llava_gpu.py's table, and its goals."""

import dataclasses
from dataclasses import dataclass, field

from llava_work import Work

HEAD = [("samples/s", 10), ("useful", 9), ("attention", 10), ("share", 8), ("peak", 8), ("over", 9), ("loss", 11)]
HEAD += [("gradient", 10)]
UNITS = [("", 10), ("TFLOP/s", 9), ("TFLOP/s", 10), ("", 8), ("GB", 8), ("(a)", 9), ("apart", 11), ("cosine", 10)]


@dataclass
class Row:
    """What came of it: timed seconds, samples and work, peak bytes, how far from (a), and what to say of it.

    `at_once` is how many samples went through the LLM together; 0 where that was not settled.
    """

    label: str
    seconds: float = 0.0
    samples: int = 0
    work: Work = dataclasses.field(default_factory=lambda: Work(0, 0, 0))
    peak: int = 0
    at_once: int = 0
    apart: tuple[float, float] | None = None
    agrees: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds else 0.0


def line_of(row: Row, plain: Row, limit: float) -> str:
    """One row under HEAD and UNITS; `limit` is the ceiling in operations a second."""
    if not row.seconds:
        return f"  {row.label:28} {'; '.join(row.notes) or 'no step was timed'}"
    useful, attention = row.work.useful / row.seconds, row.work.attention / row.seconds
    cells = [f"{row.speed:10.2f}", f"{useful / 1e12:9.3f}", f"{attention / 1e12:10.3f}", f"{useful / limit:8.1%}"]
    cells.append(f"{row.peak / 1e9:8.2f}" if row.peak else f"{'-':>8}")
    cells.append(f"{row.speed / plain.speed:8.2f}x" if plain.seconds else f"{'-':>9}")
    loss, cosine = row.apart or (float("nan"), float("nan"))
    return f"  {row.label:28}{''.join(cells)}{loss:11.1e}{cosine:10.6f}   {'; '.join(row.notes)}".rstrip()


def goals(rows: dict[str, Row], limit: float, parameters: int, clients: int) -> list[str]:
    """Each with its figure, and whether it is met; `clients` are those of (c)."""
    plain, one, five = (next(r for label, r in rows.items() if label.startswith(f"({c})")) for c in "abc")
    lines = []

    def goal(text: str, known: bool, value: float, met: bool, form: str) -> None:
        verdict = ("met" if met else "missed") if known else "not measured"
        lines.append(f"  {text:66}{form.format(value) if known else '-':>10}   {verdict}")

    share = one.work.useful / one.seconds / limit if one.seconds else 0.0
    goal("(b) useful share of the ceiling, at least 50 %", one.seconds > 0, 100 * share, share >= 0.5, "{:.1f} %")
    known = one.seconds > 0 and plain.seconds > 0
    ratio = one.speed / plain.speed if known else 0.0
    goal("(b) over (a), at least 1.5 times", known, ratio, ratio >= 1.5, "{:.2f}x")
    known = one.seconds > 0 and five.seconds > 0
    ratio = five.speed / one.speed if known else 0.0
    goal("(c) over (b) a sample, at least 0.95", known, ratio, ratio >= 0.95, "{:.2f}x")
    # with fewer samples at once than (b), what a client adds would be hidden by what its samples no longer take
    known = known and five.peak > 0 and one.at_once == five.at_once
    extra = (five.peak - one.peak) / (clients - 1) / 1e9
    goal("memory of one more client (peaks of (c) and (b)), under 0.5 GB", known, extra, extra < 0.5, "{:.3f} GB")
    state = 3 * 4 * parameters / 1e9
    lines.append(
        f"  a client's projector and AdamW moments, {parameters / 1e6:.1f}M parameters in float32: {state:.3f} GB; "
        f"its gradient while a step is taken: {state / 3:.3f} GB"
    )
    return lines
