"""Who takes part in a round, against splitmix64 written again, and the laws of a fair draw."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.federation.participation import participants

MASK = 2**64 - 1


def splitmix64(state):
    x = (state + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def oracle(clients, share, round_number, seed):
    start = splitmix64((seed + int.from_bytes(b"particip", "big")) & MASK)
    ranks = {}
    for client in range(clients):
        index = round_number * clients + client
        ranks[client] = splitmix64((start + index * 0x9E3779B97F4A7C15) & MASK)
    count = max(1, round(share * clients))
    return sorted(sorted(ranks, key=ranks.__getitem__)[:count])


CASES = st.integers(1, 40), st.floats(0.001, 1), st.integers(0, 200), st.integers(0, 2**40)


@given(*CASES)
def test_the_draw_is_that_of_the_definition(clients, share, round_number, seed):
    """Hence the same on every machine, for every method, and after resuming."""
    assert participants(clients, share, round_number, seed) == oracle(clients, share, round_number, seed)


@given(*CASES)
def test_a_draw_is_an_ascending_choice_of_the_right_size(clients, share, round_number, seed):
    drawn = participants(clients, share, round_number, seed)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(clients))
    assert len(drawn) == max(1, round(share * clients))


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
def test_with_full_participation_all_are_there(clients, round_number, seed):
    assert participants(clients, 1.0, round_number, seed) == list(range(clients))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_the_draw_is_fair(share):
    """Each client, and each pair of clients, is met as often as by chance, within five standard deviations."""
    clients, rounds = 20, 3000
    met = np.zeros((rounds, clients))
    for number in range(rounds):
        met[number, participants(clients, share, number + 1, seed=4)] = 1
    count = round(share * clients)
    chance = count / clients
    assert np.abs(met.mean(0) - chance).max() < 5 * np.sqrt(chance * (1 - chance) / rounds)
    both = count * (count - 1) / (clients * (clients - 1))
    together = met.T @ met / rounds
    off = together[~np.eye(clients, dtype=bool)]
    assert np.abs(off - both).max() < 5 * np.sqrt(both * (1 - both) / rounds)
    after = np.mean(met[1:] * met[:-1])  # one round tells nothing about the next
    assert abs(after - chance**2) < 5 * np.sqrt(chance**2 / (rounds * clients))


def test_seeds_and_rounds_differ():
    draws = [tuple(participants(20, 0.5, number, seed)) for seed, number in itertools.product(range(10), range(1, 11))]
    assert len(set(draws)) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.5, 1, 0), "clients = 0"),
        ((5, 0.0, 1, 0), r"federation\.participation = 0\.0"),
        ((5, 1.2, 1, 0), r"federation\.participation = 1\.2"),
        ((5, float("nan"), 1, 0), "greater than 0"),
        ((5, 0.5, -1, 0), "round = -1"),
    ],
)
def test_impossible_draws_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        participants(*arguments)
