"""A study in sentences: who wins how many scenarios, by how much, whether ours does; no more than is measured."""

from collections import Counter
from collections.abc import Sequence

from fedcmp.errors import counted
from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study.claims import Claim, claims, conditions
from fedcmp.report.study.comparing import OURS, Comparison
from fedcmp.report.study.heat import beats_all
from fedcmp.report.study.metrics import write_difference, write_p
from fedcmp.report.study.results import Results
from fedcmp.report.verdict import Phrase, listed

_FEW = 3  # seeds: with fewer, two standard errors are reached by chance in one case of seven


def winner_sentences(one: Comparison) -> list[Phrase]:
    """Say which federated method has the lowest caption loss in one scenario, and its lead over the next."""
    if one.winner is None:
        return [Phrase(f"{one.scenario.title}: no federated figure yet.")]
    loss = one.estimate(one.winner, CAPTION_LOSS.key)
    found = one.differences(one.winner, CAPTION_LOSS.key)
    estimates = [(entry, entry.estimate(CAPTION_LOSS.key)) for entry in one.entries if entry is not one.winner]
    rivals = [entry for entry, estimate in estimates if estimate is not None and estimate.finite]
    said = [Phrase(f"{one.scenario.title}: "), Phrase(one.winner.method.title, True)]
    said.append(Phrase(f", caption loss {CAPTION_LOSS.write(loss.mean if loss else None)}"))
    if not rivals:
        return [*said, Phrase("; no other federated method has a figure.")]
    rival = rivals[0]
    gap = found[rival.method.name]
    name = rival.method.title
    if gap is None:
        return [*said, Phrase(f"; next {name}, which ran no common seed.")]
    spread = write_difference(CAPTION_LOSS, gap.mean, gap.error)
    if gap.error is None:
        return [*said, Phrase(f", {spread} below {name}; one common seed, so no spread is known.")]
    p = one.p_values.get(rival.method.name)
    test = f"n = {gap.count}" + (
        f", p {'' if p is not None and p < 0.001 else '= '}{write_p(p)}" if p is not None else ""
    )
    if one.undecided:
        return [*said, Phrase(f", {spread} below {name}, but {one.undecided}.")]
    if gap.beyond_two_errors:
        return [*said, Phrase(f", {spread} below {name} ({test}).")]
    return [*said, Phrase(f", not told apart from {name} (difference {spread}, {test}).")]


def ours_sentences(results: Results) -> list[Phrase]:
    """Say in which scenarios our method meets all three conditions, and where not."""
    judged = [(one, found) for one in results.comparisons if (found := claims(one))]
    if not judged:
        return []
    title, wanted = results.study.methods[OURS].title, conditions(results)
    names = listed([metric.title.lower() for metric in wanted])
    won = [one.scenario.title for one, found in judged if len(found) == len(wanted) and all(c.met for c in found)]
    said = [Phrase(f"{title} wins {len(won)} of {len(judged)} scenarios", True)]
    said.append(Phrase(f" on {'all of ' if len(wanted) > 2 else ''}{names} by more than two standard errors"))
    said.append(Phrase(f": {listed(won)}." if won else "."))
    pairs = [one.scenario.title for one, found in judged if one.scenario.title in won and _fewest(found) < _FEW]
    if pairs:
        said.append(Phrase(f" On two seeds only, which is little to go by: {listed(pairs)}."))
    counts = [
        f"{metric.title.lower()} in {sum(c.met for _, found in judged for c in found if c.metric is metric)}"
        for metric in wanted
    ]
    said.append(Phrase(f" One by one they are met: {listed(counts)} of {len(judged)}."))
    return said


def _fewest(found: Sequence[Claim]) -> int:
    """The fewest seeds that any of the closest rivals shares with ours."""
    return min(claim.difference.count for claim in found if claim.difference is not None)


def headline(results: Results) -> list[Phrase]:
    """Say in one sentence which method is lowest in how many scenarios, and how often beyond the noise."""
    shown = [one for one in results.comparisons if one.winner is not None]
    reasons = [one.undecided for one in shown]
    if shown and all(reasons):
        what, _, why = reasons[0].partition(":")
        return [Phrase(what[:1].upper() + what[1:], True), Phrase(f":{why}.")]
    won = Counter(one.winner.method.title for one in shown if one.winner is not None)
    if not won:
        return [Phrase("Nothing has been evaluated yet.", True), Phrase(" The first figures come with a run.")]
    (best, count), *_ = won.most_common(1)
    if all(len([entry for entry in one.entries if entry.estimate(CAPTION_LOSS.key)]) == 1 for one in shown):
        lone = " is the only federated method with figures so far."
        return [Phrase(best, True), Phrase(lone if len(won) == 1 else " and others have figures, none beside another.")]
    clear = sum(one.winner is not None and one.winner.method.title == best and beats_all(one) for one in shown)
    said = [Phrase(best, True), Phrase(" has the lowest caption loss of all federated methods in ")]
    said.append(Phrase(f"{count} of {counted(len(shown), 'scenario')}", True))
    beyond = "every one" if clear == count > 1 else str(clear) if clear else "none"
    where = f"in {beyond} of them" if count > 1 else "" if clear else "not"
    said.append(
        Phrase(f", {where} by more than two standard errors of the difference to every other.".replace(",  ", ", "))
    )
    return said


def verdict(results: Results) -> list[list[Phrase]]:
    """Return all paragraphs: the one sentence, whether ours wins, then the scenarios one by one."""
    return [headline(results), *details(results)]


def details(results: Results) -> list[list[Phrase]]:
    """Return what comes after the first sentence: ours, then the paper's scenarios one by one, then the others."""
    paragraphs = [ours_sentences(results), *(winner_sentences(one) for one in results.comparisons)]
    return [phrases for phrases in paragraphs if phrases]
