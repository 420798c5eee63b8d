"""One pass: every pair once, in an order that never changes, from any cursor on."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.data.batches import Cursor, OnePass, batches_of_part, collate, one_pass_order, round_parts

U64 = 2**64


def splitmix(state: int) -> int:
    """One output of splitmix64 as its authors print it, in Python integers."""
    z = (state + 0x9E3779B97F4A7C15) % U64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % U64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % U64
    return z ^ (z >> 31)


def test_splitmix_is_the_published_one() -> None:
    assert splitmix(0) == 0xE220A8397B1DCDAF  # first output for seed 0


@pytest.mark.parametrize("seed", [0, 1, 7, 2**64 - 1, -3, 2**70 + 5])
def test_the_order_is_by_hash(seed: int) -> None:
    start = splitmix(seed % U64)
    hashes = [splitmix((start + i * 0x9E3779B97F4A7C15) % U64) for i in range(50)]
    assert one_pass_order(50, seed).tolist() == sorted(range(50), key=hashes.__getitem__)


def test_the_order_never_changes() -> None:
    assert one_pass_order(12, 7).tolist() == [9, 5, 4, 11, 2, 3, 1, 0, 8, 7, 10, 6]
    batches = OnePass(12, [3, 1, 2] * 4, rounds=2, batch_size=2, seed=7)
    assert [batch.tolist() for batch in batches] == [[9, 3], [11, 2], [4, 5], [1, 7], [10, 8], [0, 6]]


@settings(deadline=None)
@given(st.sets(st.integers(0, 10**12), max_size=40), st.integers(), st.data())
def test_the_order_of_a_subset_is_the_order_restricted(indices: set[int], seed: int, data: st.DataObject) -> None:
    subset = data.draw(st.sets(st.sampled_from(sorted(indices))) if indices else st.just(set()))
    whole = one_pass_order(sorted(indices), seed).tolist()
    assert sorted(whole) == sorted(indices)
    assert one_pass_order(sorted(subset), seed).tolist() == [i for i in whole if i in subset]
    assert one_pass_order(list(indices), seed).tolist() == whole  # however they are given


def test_orders_are_shuffled_and_differ_between_seeds() -> None:
    orders = np.array([one_pass_order(1000, seed) for seed in range(20)])
    places = np.argsort(orders, 1)
    correlation = np.corrcoef(np.vstack([np.arange(1000), places]))
    assert np.abs(correlation - np.eye(21)).max() < 0.13  # four standard deviations of independent permutations


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 15))
def test_parts_cover_all_and_are_even(count: int, rounds: int) -> None:
    order = one_pass_order(count, 3)
    parts = round_parts(order, rounds)
    assert len(parts) == rounds
    assert np.concatenate(parts).tolist() == order.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ValueError, match="rounds = 0"):
        round_parts(order, 0)


@settings(deadline=None)
@given(st.integers(0, 120), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_batches_hold_every_index_once_and_like_lengths(count: int, batch_size: int, buckets: int, seed: int) -> None:
    indices = one_pass_order(count, seed) + 1000
    lengths = np.random.RandomState(seed).randint(1, 30, count)
    batches = batches_of_part(indices, lengths, batch_size=batch_size, seed=seed, buckets=buckets)
    assert sorted(np.concatenate([*batches, []]).tolist()) == sorted(indices.tolist())
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    length_of = dict(zip(indices.tolist(), lengths.tolist(), strict=True))
    expected = set()
    for start in range(0, count, batch_size * buckets):
        bucket = sorted(indices[start : start + batch_size * buckets].tolist(), key=length_of.__getitem__)
        expected |= {tuple(bucket[at : at + batch_size]) for at in range(0, len(bucket), batch_size)}
    assert {tuple(batch.tolist()) for batch in batches} == expected


def test_the_order_of_batches_is_shuffled() -> None:
    batches = batches_of_part(np.arange(800), np.arange(800), batch_size=8, seed=1, buckets=10)
    firsts = [int(batch[0]) for batch in batches]
    assert firsts != sorted(firsts)
    assert firsts != [
        int(b[0]) for b in batches_of_part(np.arange(800), np.arange(800), batch_size=8, seed=2, buckets=10)
    ]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="2 caption lengths for 3 indices"):
        batches_of_part(np.arange(3), [1, 2], batch_size=1, seed=0)
    with pytest.raises(ValueError, match="batch_size = 0"):
        batches_of_part(np.arange(3), [1, 2, 3], batch_size=0, seed=0)
    options = {"rounds": 2, "batch_size": 2, "seed": 0}
    with pytest.raises(ValueError, match="comes twice"):
        OnePass([1, 1], [1, 1], **options)
    with pytest.raises(ValueError, match="2 caption lengths for 3"):
        OnePass(3, [1, 1], **options)
    with pytest.raises(ValueError, match="seed 1 is not the pass's seed 0"):
        OnePass(3, [1] * 3, **options, cursor=Cursor(1))
    for outside in (Cursor(0, 3), Cursor(0, 0, 2), Cursor(0, 2, 1)):
        with pytest.raises(ValueError, match="outside the pass"):
            OnePass(3, [1] * 3, **options, cursor=outside)
    assert list(OnePass(3, [1] * 3, **options, cursor=Cursor(0, 2))) == []


@settings(deadline=None)
@given(
    count=st.integers(0, 80),
    rounds=st.integers(1, 6),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 2**64),
    stops=st.lists(st.integers(0, 12), max_size=6),
)
def test_resuming_anywhere_changes_nothing(
    count: int, rounds: int, batch_size: int, seed: int, stops: list[int]
) -> None:
    lengths = np.random.RandomState(count).randint(1, 20, count)

    def start(cursor: Cursor | None) -> OnePass:
        return OnePass(count, lengths, rounds=rounds, batch_size=batch_size, seed=seed, buckets=2, cursor=cursor)

    whole = [batch.tolist() for batch in start(None)]
    found: list[list[int]] = []
    cursor = None
    for stop in stops:
        run = start(cursor)
        for _ in range(stop):
            if (batch := next(run, None)) is not None:
                found.append(batch.tolist())
        cursor = Cursor.from_dict(run.cursor.to_dict())
    found += [batch.tolist() for batch in start(cursor)]
    assert found == whole
    assert sorted(index for batch in whole for index in batch) == list(range(count))


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 6), st.integers(0, 6))
def test_round_by_round(count: int, rounds: int, taken: int) -> None:
    def start(cursor: Cursor | None = None) -> OnePass:
        return OnePass(count, [5] * count, rounds=rounds, batch_size=3, seed=2, cursor=cursor)

    run = start()
    for number in range(rounds):
        assert run.cursor == Cursor(2, number)
        batches = list(run.rest_of_round())
        assert sorted(np.concatenate([*batches, []])) == sorted(run.part(number).tolist())
    assert run.cursor == Cursor(2, rounds)
    assert list(run) == list(run.rest_of_round()) == []
    half = start()
    first = [batch.tolist() for batch in islice(half.rest_of_round(), taken)]
    rest = [batch.tolist() for batch in start(half.cursor).rest_of_round()]
    if half.cursor.round == 0:
        assert first + rest == [batch.tolist() for batch in start().batches(0)]
    else:
        assert first == [batch.tolist() for batch in start().batches(0)]


def test_rounds_have_orders_of_their_own() -> None:
    run = OnePass(400, list(range(400)), rounds=2, batch_size=10, seed=1, buckets=20)
    ranks = [np.argsort([run.part(r).tolist().index(batch[0]) for batch in run.batches(r)]) for r in range(2)]
    assert ranks[0].tolist() != ranks[1].tolist()


@pytest.mark.parametrize(
    "values",
    [{}, {"seed": 1, "round": 0}, {"seed": 1, "round": 0, "position": 0.5}, {"seed": 1, "round": -1, "position": 0}],
)
def test_what_is_no_cursor(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.from_dict(values)


def test_collate() -> None:
    ids, lengths = collate([[5, 6], [7], [8, 9, 10]], pad_id=0)
    assert ids.tolist() == [[5, 6, 0], [7, 0, 0], [8, 9, 10]]
    assert lengths.tolist() == [2, 1, 3]
    assert (ids.dtype, lengths.dtype) == (lengths.dtype, ids.dtype)
    empty, none = collate([], pad_id=0)
    assert (tuple(empty.shape), tuple(none.shape)) == ((0, 0), (0,))
    assert none.dtype == ids.dtype
