"""The words that tell one client's captions from the others'.

Weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, equations 16, 20 and 22):

    delta_w = log (y_w + a_w) / (n + a_0 - y_w - a_w)  -  log (y'_w + a_w) / (n' + a_0 - y'_w - a_w)
    var_w   = 1 / (y_w + a_w) + 1 / (y'_w + a_w)
    z_w     = delta_w / sqrt(var_w)

y_w, n: the word's count and all words of the client; y'_w, n': of the other clients together. The prior a_w is the
word's share of all captions times a_0, and a_0 is the words of a mean client: words that everybody uses are drawn to no
difference, so no list of stop words is needed, and a rare word needs more than one caption to stand out.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

MOST_WORDS = 12
LEAST_Z = 1.96  # words below it may be there by chance
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def simple_words(caption: str) -> list[str]:
    """The lower-cased words of a caption: runs of letters, with apostrophes inside."""
    return _WORD.findall(caption.lower())


def telling_words(counts: Sequence[Counter[str]], *, most: int = MOST_WORDS) -> list[list[tuple[str, float]]]:
    """The words with the largest z of each client.

    Args:
        counts: per client, how often each word stands in its captions.
        most: words a client, at most.

    Returns:
        Per client (word, z), largest first (equal ones by the alphabet), z at least 1.96; none for a client without
        words, or where nobody else has any.
    """
    everyone: Counter[str] = Counter()
    for own in counts:
        everyone.update(own)
    total = everyone.total()
    prior_words = total / max(len(counts), 1)
    found: list[list[tuple[str, float]]] = []
    for own in counts:
        n = own.total()
        if not n or n == total:
            found.append([])
            continue
        scored = [(word, _z(own[word], n, everyone[word], total, prior_words)) for word in own]
        told = sorted((pair for pair in scored if pair[1] >= LEAST_Z), key=lambda pair: (-pair[1], pair[0]))
        found.append(told[:most])
    return found


def _z(own: int, own_total: int, everyone: int, total: int, prior_words: float) -> float:
    prior = prior_words * everyone / total
    a, rest_a = own + prior, own_total + prior_words - own - prior
    b, rest_b = everyone - own + prior, total - own_total + prior_words - (everyone - own) - prior
    if rest_a <= 0 or rest_b <= 0:  # there is no other word
        return 0.0
    return (math.log(a / rest_a) - math.log(b / rest_b)) / math.sqrt(1 / a + 1 / b)
