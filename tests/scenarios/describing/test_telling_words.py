import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.scenarios.describing.telling_words import LEAST_Z, simple_words, telling_words

COUNTS = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 60), max_size=8).map(Counter), min_size=2, max_size=5
)


def z_by_hand(counts, client, word):
    """The paper's formulas once more, with loops."""
    prior_words = sum(sum(c.values()) for c in counts) / len(counts)
    everyone = sum(c[word] for c in counts)
    prior = prior_words * everyone / sum(sum(c.values()) for c in counts)
    odds, variance = [], 0.0
    for side in ([client], [k for k in range(len(counts)) if k != client]):
        y, n = sum(counts[k][word] for k in side), sum(sum(counts[k].values()) for k in side)
        odds.append(math.log((y + prior) / (n + prior_words - y - prior)))
        variance += 1 / (y + prior)
    return (odds[0] - odds[1]) / math.sqrt(variance)


def test_words_are_lower_cased_runs_of_letters():
    assert simple_words("A cat's RED-ball, 7 Bälle! <PERSON> don’t x2") == [
        *("a", "cat's", "red", "ball", "bälle", "person", "don’t", "x"),
    ]
    assert simple_words("...") == []


def test_planted_words_are_found_and_common_ones_are_not():
    common = {"a": 400, "of": 300, "the": 200}
    counts = [Counter({**common, "dog": 40, "cat": 3}), Counter({**common, "cat": 45}), Counter({**common, "car": 40})]
    told = [[word for word, _ in words] for words in telling_words(counts)]
    assert told == [["dog"], ["cat"], ["car"]]


@given(COUNTS)
def test_scores_are_the_papers(counts):
    if len({word for own in counts for word in own}) < 2:
        return
    for client, words in enumerate(telling_words(counts, most=99)):
        assert [z for _, z in words] == sorted((z for _, z in words), reverse=True)
        if sum(c.total() for c in counts) == counts[client].total():
            assert words == []
            continue
        expected = {word: z_by_hand(counts, client, word) for word in counts[client]}
        assert dict(words) == pytest.approx({w: z for w, z in expected.items() if z >= LEAST_Z})


@given(COUNTS)
def test_no_word_tells_both_of_two_clients_apart(counts):
    first, second = telling_words(counts[:2])
    assert not {word for word, _ in first} & {word for word, _ in second}


def test_a_client_alone_or_without_words_has_none():
    assert telling_words([Counter(dog=9)]) == [[]]
    assert telling_words([Counter(dog=9, a=3), Counter()]) == [[], []]
    assert telling_words([Counter(dog=9), Counter(dog=5)]) == [[], []]
    assert telling_words([]) == []


def test_only_the_most_telling_are_kept():
    counts = [Counter({f"w{n}": 30 + n for n in range(20)}), Counter({f"v{n}": 30 for n in range(20)})]
    assert [word for word, _ in telling_words(counts, most=3)[0]] == ["w19", "w18", "w17"]
