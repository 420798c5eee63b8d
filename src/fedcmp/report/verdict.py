"""Which method wins and by how much, in a few sentences that never say more than the numbers do (comparison.py)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcmp.report.comparison import BLIND, FEWEST, Comparison, Decision
from fedcmp.report.intervals import Difference
from fedcmp.report.methods import CAPTION_LOSS, MethodEntry

_MOST_NAMED = 4


@dataclass(frozen=True)
class Phrase:
    """A piece of a sentence, plain text."""

    text: str
    strong: bool = False


def verdict(comparison: Comparison) -> list[Phrase]:
    """Say which federated method wins, by how much and how sure that is, or why none does."""
    decision = comparison.decision
    best, loss = decision.best, comparison.loss(decision.best)
    if best is None or loss is None:
        return _without_server(comparison)
    rounds = min(run.round_reached for run in best.counted)
    so_far = [] if best.finished else [Phrase(f"So far (round {rounds}): ")]
    if decision.kind == "too few":
        said = [
            Phrase("Too few held-out pairs to name a winner", True),
            Phrase(f": {decision.pairs}, and at least {FEWEST} are needed. {_lowest(comparison, decision)}"),
        ]
        return [*so_far, *said]
    if decision.kind == "nothing learned":
        blind = comparison.reference_loss(BLIND)
        side = "above" if blind is not None and loss > blind else "within the noise of"
        text = f": {best.label}'s caption loss, {CAPTION_LOSS.write(loss)} nats per token, is {side} that of the same "
        text += f"LLM without images ({CAPTION_LOSS.write(blind)}). Train longer, or with other learning rates."
        return [*so_far, Phrase("Nothing learned yet", True), Phrase(text)]
    return [*so_far, *_comparison(comparison, decision, best, loss), *_distances(comparison, best, loss)]


def _comparison(comparison: Comparison, decision: Decision, best: MethodEntry, loss: float) -> list[Phrase]:
    tied, behind, gaps = decision.tied, decision.behind, decision.gaps
    leaders = [best, *tied]
    if decision.kind == "unknown":
        unknown = [method.label for method in tied if not gaps[method.label].known]
        said = [
            Phrase(best.label, True),
            Phrase(" has the lowest caption loss: "),
            Phrase(CAPTION_LOSS.write(loss), True),
        ]
        text = f" nats per token, but nothing tells how much of its lead over {listed(unknown)} is noise: no seed in "
        text += "common, or one without losses per caption (held_out.json). Run two or more seeds"
        said.append(Phrase(text))
    elif tied:
        losses = listed([CAPTION_LOSS.write(comparison.loss(method)) for method in leaders])
        said = [
            Phrase(listed([method.label for method in leaders]), True),
            Phrase(" are not distinguishable: caption loss "),
        ]
        said += [Phrase(losses, True), Phrase(f" nats per token; {best.label} is {_told(gaps[tied[0].label])} below ")]
        said.append(Phrase(tied[0].label))
    elif behind:
        said = [Phrase(best.label, True), Phrase(" wins: caption loss "), Phrase(CAPTION_LOSS.write(loss), True)]
        said.append(Phrase(" nats per token (lower is better)"))
    else:
        said = [Phrase(best.label, True), Phrase(" reaches a caption loss of "), Phrase(CAPTION_LOSS.write(loss), True)]
        said.append(Phrase(" nats per token"))
    rival = next((method for method in behind if method.name == "fedavg"), next(iter(behind), None))
    if rival is not None:
        lead = f"; {best.label} is " if tied else ", "
        rival_loss = CAPTION_LOSS.write(comparison.loss(rival))
        said.append(Phrase(f"{lead}{_told(gaps[rival.label])} below {rival.label} ({rival_loss})"))
    said.append(Phrase("."))
    if behind and behind[0] is not rival:
        said.append(Phrase(f" Next comes {behind[0].label}, {_told(gaps[behind[0].label], short=True)} behind."))
    return said


def _told(gap: Difference, *, short: bool = False) -> str:
    """A difference with its interval, and what that is taken over."""
    if not gap.known:
        return CAPTION_LOSS.write(gap.mean)
    return f"{CAPTION_LOSS.write(gap.mean)} (95 % interval {gap.interval}{'' if short else f'; {gap.basis}'})"


def _lowest(comparison: Comparison, decision: Decision) -> str:
    methods = [method for method in (decision.best, *decision.tied, *decision.behind) if method is not None]
    known = sorted(methods, key=lambda method: comparison.loss(method) or math.inf)[:_MOST_NAMED]
    listed = ", ".join(f"{method.label} {CAPTION_LOSS.write(comparison.loss(method))}" for method in known)
    return f"Caption losses so far, which prove nothing: {listed}."


def listed(names: Sequence[str]) -> str:
    """Return names as one phrase: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _distances(comparison: Comparison, best: MethodEntry, loss: float) -> list[Phrase]:
    from_fedavg, from_unseeing = comparison.closed_from_fedavg(best), comparison.closed_from_unseeing(best)
    start = comparison.unseeing_loss(best)
    pooled, blind = comparison.loss(comparison.named("centralized")), comparison.reference_loss(BLIND)
    told: list[list[Phrase]] = []
    if pooled is not None and loss < pooled:
        ahead = f"{CAPTION_LOSS.write(pooled - loss)} below pooled data ({CAPTION_LOSS.write(pooled)})"
        return [Phrase(f" {best.label} is also {ahead}.")]
    if pooled is not None and from_fedavg is not None and from_fedavg > 0:
        text = f" of fedavg's distance to pooled data ({CAPTION_LOSS.write(pooled)})"
        told.append([Phrase(f"{100 * from_fedavg:.0f} %", True), Phrase(text)])
    if pooled is not None and from_unseeing is not None and from_unseeing > 0:
        whose = " of the blind LLM's" if start == blind else " of the distance from its own loss on shuffled images"
        if told:
            text = f"{whose} ({CAPTION_LOSS.write(start)})"
        else:
            text = f"{whose}{' distance' if start == blind else ''} to pooled data"
        told.append([Phrase(f"{100 * from_unseeing:.0f} %", True), Phrase(text)])
    if told:
        middle = [Phrase(" and ")] if len(told) > 1 else []
        return [Phrase(f" {best.label} closes "), *told[0], *middle, *(told[1] if middle else []), Phrase(".")]
    if blind is not None:
        side = "below" if loss < blind else "above"
        return [Phrase(f" That is {CAPTION_LOSS.write(abs(blind - loss))} {side} the same LLM without images.")]
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
