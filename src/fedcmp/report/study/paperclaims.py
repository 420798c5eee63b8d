"""The paper's claims one by one: what its tables say, what a study's runs say, and whether the two agree.

Everything here is of caption loss (nats per token) in the study's own world, everything there of benchmarks of a 7B
model: only signs and orders can be compared. With a difference d over common seeds and its standard error s,

    confirmed               d has the paper's sign, |d| > 2 s
    contradicted            d has the other sign, |d| > 2 s; or there is no effect, |d| + 2 s < .0005
    not decided             |d| <= 2 s, or one seed
    not testable here       nothing was run that could tell

Where a claim is about several scenarios, each is judged and counted.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.paper import BY_HETEROGENEITY, METHODS, paper
from fedcmp.report.study.comparing import FEDAVG, OURS, Comparison, arms_comparison
from fedcmp.report.study.metrics import write_difference
from fedcmp.report.study.results import PUBLISHED, Results
from fedcmp.report.study.statistics import Estimate, PairedDifference
from fedcmp.report.study.trajectories import oscillations
from fedcmp.report.tables import Cell, Column, Row, Table

Judged = Literal["confirmed", "contradicted", "not decided", "not testable here"]
_NOT_RUN = "not run"
_IID = "iid"
_NO_EFFECT = 0.0005  # nats


@dataclass(frozen=True)
class PaperClaim:
    """One claim: in words, what the paper's cells say, what was measured here, how each scenario judges it."""

    claim: str
    there: str
    here: str
    judged: tuple[Judged, ...]

    @property
    def verdict(self) -> str:
        """Return one word, or how many scenarios say which."""
        counts = Counter(self.judged)
        if len(counts) == 1 or not counts:
            return self.judged[0] if self.judged else "not testable here"
        return ", ".join(f"{name} in {counts[name]} of {counts.total()}" for name in counts)


def paper_claims(results: Results) -> list[PaperClaim]:
    """Judge all claims by a study's runs; one of which nothing was run is not testable here."""
    compared = {one.scenario.name: one for one in results.comparisons}
    scenarios = [compared[name] for name in BY_HETEROGENEITY if name in compared]
    return [
        _wins(scenarios),
        _order(scenarios, PUBLISHED, "Fed-CMP"),
        _order(scenarios, OURS, "shared-basis"),
        _more_unlike(compared, PUBLISHED, "Fed-CMP"),
        _more_unlike(compared, OURS, "shared-basis"),
        _fedprox(scenarios),
        _ties(scenarios),
        *_parts(results),
        _gamma(results),
        _smooth(compared.get("image")),
        PaperClaim(
            "A projector of Fed-CMP, tuned further with LoRA, keeps its lead",
            _tuned(),
            "no data set of the paper's and no 7B model was at hand",
            (),
        ),
    ]


def claims_of_paper_table(results: Results) -> Table:
    """Return the claims as a table."""
    rows = [
        Row((Cell(one.claim), Cell(one.there), Cell(one.here), Cell(one.verdict, bold=True)))
        for one in paper_claims(results)
    ]
    columns = ("Claim", "The paper's cells", "Here, caption loss in nats per token", "Verdict")
    notes = (
        "Differences are over common seeds, their standard error in brackets; confirmed or contradicted: beyond two "
        "standard errors, with the paper's sign or the other one, or no effect as large as .0005; not decided: within "
        "two standard errors. Fed-CMP here is the rule as reconstructed from the "
        "paper (`fedcmp`), shared-basis this project's own.",
    )
    heads = tuple(Column(title, numeric=False) for title in columns)
    return Table(heads, tuple(rows), "The paper's claims, one by one", notes)


def _gain(one: Comparison, name: str, start: str = FEDAVG) -> PairedDifference | None:
    """How much lower a method's caption loss is than FedAvg's, over common seeds."""
    mine, theirs = one.named(name), one.named(start)
    if mine is None or theirs is None:
        return None
    return PairedDifference.between(mine.by_seed(CAPTION_LOSS.key), theirs.by_seed(CAPTION_LOSS.key))


def _judge(mean: float, error: float | None) -> Judged:
    if error is not None and abs(mean) + 2 * error < _NO_EFFECT:
        return "contradicted"
    if error is None or not math.isfinite(mean) or abs(mean) <= 2 * error:
        return "not decided"
    return "confirmed" if mean > 0 else "contradicted"


def _of(gap: PairedDifference | None) -> Judged:
    return "not testable here" if gap is None else _judge(gap.mean, gap.error)


def _write(gap: PairedDifference | Estimate | None) -> str:
    if gap is None:
        return _NOT_RUN
    return write_difference(CAPTION_LOSS, gap.mean, sign=True) + _brackets(gap.error)


def _brackets(error: float | None) -> str:
    return "" if error is None else f" ({write_difference(CAPTION_LOSS, error)})"


def _listed(scenarios: Iterable[Comparison], told: Callable[[Comparison], str]) -> str:
    return "; ".join(f"{one.scenario.name} {told(one)}" for one in scenarios) or _NOT_RUN


def _wins(scenarios: Sequence[Comparison]) -> PaperClaim:
    best = sum(table.ranks()["Fed-CMP"] == min(table.ranks().values()) for table in paper().scores.values())
    gaps = [_gain(one, PUBLISHED) for one in scenarios]
    return PaperClaim(
        "Fed-CMP beats FedAvg in every scenario",
        f"best mean rank of nine methods in {best} of {len(paper().scores)} scenarios",
        "gain over FedAvg: " + _listed(scenarios, lambda one: _write(_gain(one, PUBLISHED))),
        tuple(_of(gap) for gap in gaps),
    )


def _order(scenarios: Sequence[Comparison], name: str, title: str) -> PaperClaim:
    """Judge each step of the order: whether the gain is larger in the more unlike of two neighbouring scenarios."""
    gains = [_gain(one, name) for one in scenarios]
    known = [gain for gain in gains if gain is not None]
    steps = [_step(a, b) for a, b in pairwise(known)] if len(known) == len(BY_HETEROGENEITY) else []
    lost = steps and all(gain.mean < 0 for gain in known)
    there = " > ".join(f"{name} {100 * paper().scores[name].gain():.1f} %" for name in BY_HETEROGENEITY)
    return PaperClaim(
        f"The gain over FedAvg is ordered image > cross > joint > text ({title})",
        f"Fed-CMP: {there} (mean over the benchmarks)",
        _listed(scenarios, lambda one: _write(_gain(one, name))) + ("; there is no gain to order" if lost else ""),
        ("contradicted",) if lost else tuple(steps),
    )


def _step(more: PairedDifference, less: PairedDifference) -> Judged:
    if more.error is None or less.error is None:
        return "not decided"
    return _judge(more.mean - less.mean, math.hypot(more.error, less.error))


def _more_unlike(compared: dict[str, Comparison], name: str, title: str) -> PaperClaim:
    shown = [compared[scenario] for scenario in ("image", _IID) if scenario in compared]
    gains = [_gain(one, name) for one in shown]
    known = [gain for gain in gains if gain is not None]
    ends = paper().scores
    return PaperClaim(
        f"The gain grows with heterogeneity: more in image clusters than with clients that are alike ({title})",
        f"no IID clients; text, the least unlike, {100 * ends['text'].gain():.1f} % against image "
        f"{100 * ends['image'].gain():.1f} %",
        _listed(shown, lambda one: _write(_gain(one, name))),
        (_step(*known),) if len(known) == 2 else (),
    )


def _fedprox(scenarios: Sequence[Comparison]) -> PaperClaim:
    cells = [
        (t.rows["FedProx"][name], score) for t in paper().scores.values() for name, score in t.rows["FedAvg"].items()
    ]
    gaps = [_gain(one, FEDAVG, "fedprox") for one in scenarios]
    return PaperClaim(
        "FedProx is below FedAvg",
        f"lower in {sum(prox < plain for prox, plain in cells)} of {len(cells)} cells",
        "FedProx minus FedAvg: " + _listed(scenarios, lambda one: _write(_gain(one, FEDAVG, "fedprox"))),
        tuple(_of(gap) for gap in gaps),
    )


def _ties(scenarios: Sequence[Comparison]) -> PaperClaim:
    """Judge TIES against the strongest other rival: better than it, worse, or neither by two standard errors."""
    rivals = [name for name in METHODS.values() if name not in ("ties", PUBLISHED)]
    second = sum(
        sorted(table.ranks(), key=lambda title: table.ranks()[title])[1] == "FedAvg-TIEs"
        for table in paper().scores.values()
    )

    def nearest(one: Comparison) -> tuple[str, PairedDifference | None]:
        found = [entry for name in rivals if (entry := one.named(name)) is not None]
        known = [(e, loss.mean) for e in found if (loss := one.estimate(e, CAPTION_LOSS.key)) and loss.finite]
        if not known or one.named("ties") is None:
            return "", None
        best = min(known, key=lambda pair: pair[1])[0].method
        return best.title, _gain(one, "ties", best.name)

    def told(one: Comparison) -> str:
        title, gap = nearest(one)
        return _NOT_RUN if gap is None else f"{_write(gap)} over {title}"

    return PaperClaim(
        "TIES is the best of the rivals, second to Fed-CMP",
        f"second by mean rank in {second} of {len(paper().scores)} scenarios",
        "gain of TIES over the best other rival of the paper's: " + _listed(scenarios, told),
        tuple(_of(nearest(one)[1]) for one in scenarios),
    )


def _parts(results: Results) -> list[PaperClaim]:
    """Judge each arm of table 3 that was run against none of the parts."""
    scenario = results.study.scenarios.get("image")
    one = arms_comparison(results.study, scenario, "3") if scenario is not None else None
    none = next(scores for parts, scores in paper().ablation.rows if not parts)
    found = []
    for parts, scores in paper().ablation.rows:
        if not parts:
            continue
        gain = sum(scores) / len(scores) - sum(none) / len(none)
        arms = {part: part in parts for part in ("CSC", "RWF", "OPM")}
        named = [e for e in one.entries if e.method.arms.get("3") == arms] if one is not None else []
        gap = _gain(one, named[0].method.name) if one is not None and named else None
        found.append(
            PaperClaim(
                f"{' + '.join(parts)} improves on none of the parts",
                f"{gain:+.1f} points, mean over {len(scores)} benchmarks",
                f"gain: {_write(gap)}",
                (_of(gap),),
            )
        )
    return found


def _gamma(results: Results) -> PaperClaim:
    """Judge gamma 1 against 0.5 and 2, both weights in use."""
    scenario = results.study.scenarios.get("image")
    one = arms_comparison(results.study, scenario, "4") if scenario is not None else None
    by_gamma: dict[float, str] = {}
    for entry in one.entries if one is not None else ():
        arms = entry.method.arms.get("4", {})
        gamma = arms.get("gamma")
        if arms.get("magnitude") is True and arms.get("quality") is True and isinstance(gamma, int | float):
            by_gamma[float(gamma)] = entry.method.name
    cells = {label.removeprefix("both, "): scores for label, scores in paper().reliability.rows if "gamma" in label}
    gaps = [
        (
            other,
            _gain(one, by_gamma[1.0], by_gamma[other]) if one is not None and {1.0, other} <= by_gamma.keys() else None,
        )
        for other in (0.5, 2.0)
    ]
    return PaperClaim(
        "gamma 1 is better than 0.5 and 2",
        "; ".join(f"{label} {' and '.join(f'{s:g}' for s in scores)}" for label, scores in cells.items()),
        "gain of gamma 1: " + "; ".join(f"over {other:g} {_write(gap)}" for other, gap in gaps),
        tuple(_of(gap) for _, gap in gaps),
    )


def _smooth(one: Comparison | None) -> PaperClaim:
    """Judge whether Fed-CMP's loss ever rises between rounds, against FedAvg's and TIES's."""
    found = {
        title: oscillations(entry, CAPTION_LOSS)
        for name, title in ((PUBLISHED, "Fed-CMP"), (FEDAVG, "FedAvg"), ("ties", "TIES"))
        if one is not None and (entry := one.named(name)) is not None
    }
    known = {title: estimate for title, estimate in found.items() if estimate is not None and estimate.finite}
    mine = known.get("Fed-CMP")
    smooth: tuple[Judged, ...] = ()
    if mine is not None:
        least = CAPTION_LOSS.write(mine.mean) == CAPTION_LOSS.write(min(each.mean for each in known.values()))
        smooth = ("confirmed" if least else "contradicted",)
    told = "; ".join(f"{title} {CAPTION_LOSS.write(each.mean)}" for title, each in known.items())
    return PaperClaim(
        "The trajectory of Fed-CMP over the rounds is smooth",
        "figure 4, by eye; TIES is competitive at round 5 on SEED, then drops",
        f"sum of all rises from round to round, image clusters: {told or _NOT_RUN}",
        smooth,
    )


def _tuned() -> str:
    sets = {"GQA": paper().tuning.GQA, "OCRVQA": paper().tuning.OCRVQA}
    gains = {name: sum(one.fedcmp) / len(one.fedcmp) - sum(one.fedavg) / len(one.fedavg) for name, one in sets.items()}
    return "over FedAvg: " + ", ".join(f"{name} {gain:+.1f} points" for name, gain in gains.items())
