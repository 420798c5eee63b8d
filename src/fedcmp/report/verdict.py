"""Which method is best and by how much, in a few sentences that never say more than the numbers do.

Two methods are told apart when their difference exceeds what seeds move by themselves: with one seed, the noise known
from the embedded world; with several, two standard errors of the mean difference over the seeds that both ran.
"""

import math
import statistics
from dataclasses import dataclass

from fedcmp.report.methods import CAPTION_LOSS, SEED_NOISE, MethodEntry
from fedcmp.report.summary import BLIND, Comparison


@dataclass(frozen=True)
class Phrase:
    """A piece of a sentence, plain text."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Difference:
    """How much lower one method's caption loss is than another's: mean, and spread over the seeds that both ran."""

    mean: float
    spread: float | None
    seeds: int

    @classmethod
    def between(cls, best: MethodEntry, rival: MethodEntry) -> "Difference":
        """Compare seed by seed where both ran the same ones, else mean with mean."""
        ours, theirs = _losses_by_seed(best), _losses_by_seed(rival)
        gaps = [theirs[seed] - ours[seed] for seed in ours if seed in theirs]
        if not gaps:
            gaps = [statistics.fmean(theirs.values()) - statistics.fmean(ours.values())]
        return cls(statistics.fmean(gaps), statistics.stdev(gaps) if len(gaps) > 1 else None, len(gaps))

    @property
    def within_noise(self) -> bool:
        """Whether seeds alone may explain the difference."""
        return self.mean <= (SEED_NOISE if self.spread is None else 2 * self.spread / math.sqrt(self.seeds))

    def __str__(self) -> str:
        if self.spread is None:
            return CAPTION_LOSS.write(self.mean)
        return f"{CAPTION_LOSS.write(self.mean)} (± {CAPTION_LOSS.write(self.spread)} over {self.seeds} shared seeds)"


def _losses_by_seed(method: MethodEntry) -> dict[int | None, float]:
    losses = {}
    for run in method.counted:
        figure = MethodEntry(method.label, method.name, (run,)).value(CAPTION_LOSS)
        if figure is not None and math.isfinite(figure.mean):
            losses[run.seed] = figure.mean
    return losses


def verdict(comparison: Comparison) -> list[Phrase]:
    """Say which federated method is best, by how much, and how much of the distance to pooled data it closes."""
    best = comparison.best
    loss = comparison.loss(best)
    if best is None or loss is None:
        return _without_server(comparison)
    rivals = [method for method in comparison.federated if method is not best and comparison.loss(method) is not None]
    gaps = {method.label: Difference.between(best, method) for method in rivals}
    tied = [method for method in rivals if gaps[method.label].within_noise]
    behind = [method for method in rivals if method not in tied]
    phrases = (
        [Phrase(f"So far (round {min(run.round_reached for run in best.counted)}): ")] if not best.finished else []
    )
    if tied:
        leaders = [best, *tied]
        names = _listed([method.label for method in leaders])
        losses = _listed([CAPTION_LOSS.write(comparison.loss(method)) for method in leaders])
        phrases += [Phrase(names, True), Phrase(" are too close to tell apart: caption loss "), Phrase(losses, True)]
        phrases += [Phrase(" nats per token, a difference that seeds alone may make")]
    else:
        what = " is the best federated method: caption loss " if rivals else " reaches a caption loss of "
        phrases += [Phrase(best.label, True), Phrase(what), Phrase(CAPTION_LOSS.write(loss), True)]
        phrases += [Phrase(" nats per token")]
    rival = next((method for method in behind if method.name == "fedavg"), next(iter(behind), None))
    if rival is not None:
        lead = f"; {best.label} is " if tied else ", "
        rival_loss = CAPTION_LOSS.write(comparison.loss(rival))
        phrases.append(Phrase(f"{lead}{gaps[rival.label]} below {rival.label} ({rival_loss})"))
    phrases.append(Phrase("."))
    if behind and behind[0] is not rival:
        phrases.append(Phrase(f" Next comes {behind[0].label}, {gaps[behind[0].label]} behind."))
    return phrases + _distances(comparison, best, loss)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _distances(comparison: Comparison, best: MethodEntry, loss: float) -> list[Phrase]:
    from_fedavg, from_blind = comparison.closed_from_fedavg(best), comparison.closed_from_blind(best)
    pooled, blind = comparison.loss(comparison.named("centralized")), comparison.reference_loss(BLIND)
    told: list[list[Phrase]] = []
    if pooled is not None and from_fedavg is not None and from_fedavg > 0:
        text = f" of fedavg's distance to pooled data ({CAPTION_LOSS.write(pooled)})"
        told.append([Phrase(f"{100 * from_fedavg:.0f} %", True), Phrase(text)])
    if pooled is not None and from_blind is not None and from_blind > 0:
        text = (
            f" of the blind LLM's ({CAPTION_LOSS.write(blind)})"
            if told
            else " of the blind LLM's distance to pooled data"
        )
        told.append([Phrase(f"{100 * from_blind:.0f} %", True), Phrase(text)])
    if told:
        middle = [Phrase(" and ")] if len(told) > 1 else []
        return [Phrase(f" {best.label} closes "), *told[0], *middle, *(told[1] if middle else []), Phrase(".")]
    if blind is not None:
        side = "below" if loss < blind else "above"
        return [Phrase(f" That is {CAPTION_LOSS.write(abs(blind - loss))} {side} the same LLM without pictures.")]
    return []


def _without_server(comparison: Comparison) -> list[Phrase]:
    measured = [(method, comparison.loss(method)) for method in comparison.methods]
    known = [(method, loss) for method, loss in measured if loss is not None]
    if not known:
        return [
            Phrase("Nothing has been evaluated yet.", True),
            Phrase(" The first figures come with the first round."),
        ]
    phrases = []
    for method, loss in known:
        so_far = "" if method.finished else "so far "
        phrases += [Phrase(method.label, True), Phrase(f" {so_far}reaches a caption loss of ")]
        phrases += [Phrase(CAPTION_LOSS.write(loss), True), Phrase(" nats per token. ")]
    return [*phrases, Phrase("No federated run here has figures to compare.")]
