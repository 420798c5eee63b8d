"""The rule-based judge of answers: exact match for a word, facts for a description. It stands where GPT-4 stood.

A description that states the facts S, for a reference with the facts R and a picture of which the facts T are true:

    mark = 2 |S' & R| / (|S'| + |R|),    S' = S without what is true but not in R,

the harmonic mean of precision and recall, and the best one over all references. A reference gets 1; a wrong fact and
one left out cost the same.
"""

from fedcmp.evaluation.suites.facts import facts_in
from fedcmp.evaluation.suites.items import Item


def mark(item: Item, said: str) -> float:
    """Between 0 and 1.

    Args:
        item: what was asked.
        said: the answer, for a description what follows the prompt.
    """
    if item.how != "text":
        return float(said == item.answer)
    stated = facts_in(f"{item.prompt} {said}") - facts_in(item.prompt)
    return description_mark(stated, item)


def description_mark(stated: frozenset[str], item: Item) -> float:
    """The mark of the facts that a description states."""
    best = 0.0
    for reference in item.references:
        needed = frozenset(reference)
        counted = stated - (frozenset(item.truth) - needed)
        best = max(best, 2 * len(counted & needed) / (len(counted) + len(needed)))
    return best
