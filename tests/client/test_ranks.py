"""Ranks that share every batch end where one process ends: states, losses, errors, moments, extras."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.client.objectives import available_objectives, create_objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner
from fedcmp.client.step_batches import positions_of_rank
from fedcmp.client.steps import available_steps, create_step
from fedcmp.client.training import train_cohort
from fedcmp.data.batches import OnePass
from fedcmp.data.features import OnTheFlyFeatures
from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.distributed import Group
from fedcmp.errors import UserError
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM
from tests.client.conftest import VISION_WIDTH, FixedFeatures, part_of, start
from tests.client.test_cohort import learners_of
from tests.data.helpers import FakeEncoder
from tests.data.test_sharing import Watched, write_tars
from tests.ranks import on_ranks

ASKED = ("canonical_second_moment", "input_gram")
SETTINGS = Optimisation(
    max_gradient_norm=0.5, epsilon=1e-3
)  # this epsilon: rounding is not magnified at tiny gradients


def copy_of(vlm):
    """A projector is swapped while it is called, so ranks that are threads need their own."""
    return VLM(vlm.language, Projector(VISION_WIDTH, vlm.language.width, seed=3))


def bases(vlm):
    """An orthogonal matrix for what each layer is fed, with a one behind it."""
    generator = torch.Generator().manual_seed(5)
    weights = {name: tensor for name, tensor in start(vlm).items() if name.endswith("weight")}
    squares = {name: torch.randn(t.shape[1] + 1, t.shape[1] + 1, generator=generator) for name, t in weights.items()}
    return {name: torch.linalg.qr(square)[0] for name, square in squares.items()}


def training(name):
    """The objective of that name, or the step."""
    return {"step": create_step(name)} if name in available_steps() else {"objective": create_objective(name)}


def trained_by(size, vlm, pairs, learners, name, **options):
    """Each rank's results."""
    return on_ranks(
        size,
        lambda group: train_cohort(copy_of(vlm), pairs, learners, SETTINGS, **training(name), group=group, **options),
    )


def assert_same(alone, shared, *, rtol=1e-4, atol=1e-6):
    for one, other in zip(alone, shared, strict=True):
        assert other.update.num_examples == one.update.num_examples
        assert other.losses == pytest.approx(one.losses, rel=1e-5)
        assert other.update.alignment_error == pytest.approx(one.update.alignment_error, abs=1e-5)
        pairs = [(one.update.state, other.update.state), (one.optimizer, other.optimizer)]
        pairs += [(one.update.second_moment or {}, other.update.second_moment or {})]
        for label, tensors in (one.update.extra or {}).items():
            pairs.append((tensors, other.update.extra[label]))
        for label, tensors in one.memory.items():
            pairs.append((tensors, other.memory[label]))
        for expected, found in pairs:
            assert expected.keys() == found.keys()
            for key, tensor in expected.items():
                torch.testing.assert_close(found[key], tensor, rtol=rtol, atol=atol, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", [*available_objectives(), "canonical"])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_take_the_steps_of_one_process(vlm, pairs, name, size):
    """A cohort whose batches of 4, 2 and 1 leave ranks with fewer samples, or none."""
    broadcast = {"control": {n: t * 1e-2 for n, t in start(vlm, 13).items()}, "canonical_basis": bases(vlm)}
    options = {"with_second_moment": True, "broadcast": broadcast, "asked": ASKED}
    learners = learners_of(vlm, first_round=False)
    alone = train_cohort(vlm, pairs, learners, SETTINGS, **training(name), **options)
    for shared in trained_by(size, vlm, pairs, learners, name, **options):
        assert_same(alone, shared)


@pytest.mark.parametrize("name", ["plain", "moon", "canonical"])
def test_more_ranks_than_samples(vlm, pairs, name):
    """Batches of two on five ranks: at every step three of them have nothing."""
    learners = [Learner(part_of(range(7), size=2), start(vlm), None, {"last_projector": start(vlm, 11)})]
    alone = train_cohort(vlm, pairs, learners, SETTINGS, **training(name))
    for shared in trained_by(5, vlm, pairs, learners, name):
        assert_same(alone, shared)


def test_a_mean_of_means_would_be_another_step(vlm, pairs):
    """Else the tests above could not tell the two: the ranks' token counts differ by enough."""
    rows = np.argsort(pairs.tokens.lengths, kind="stable")
    uneven = np.array([rows[0], rows[-1]])
    short, long = pairs.tokens.lengths[uneven].tolist()
    assert long > 1.2 * short
    learner = Learner(part_of(uneven, size=2), start(vlm))
    (alone,) = train_cohort(vlm, pairs, [learner], SETTINGS)
    losses = [train_cohort(vlm, pairs, [Learner(part_of([p]), start(vlm))], SETTINGS)[0].losses[0] for p in uneven]
    weighted = (short * losses[0] + long * losses[1]) / (short + long)
    assert alone.losses == pytest.approx([weighted], rel=1e-5)
    assert abs(sum(losses) / 2 - weighted) > 1e-3
    for shared in trained_by(2, vlm, pairs, [learner], "plain"):
        assert_same([alone], shared)


def test_an_opening_round_measures_the_same(vlm, pairs):
    learners = learners_of(vlm)
    options = {"asked": ASKED, "measure_only": True}
    alone = train_cohort(vlm, pairs, learners, SETTINGS, step=create_step("canonical"), **options)
    for shared in trained_by(2, vlm, pairs, learners, "canonical", **options):
        assert_same(alone, shared)
        assert all(not done.losses for done in shared)


class PartlyBad(FixedFeatures):
    """Some pictures turn out bad while they are read."""

    def __init__(self, features, bad):
        super().__init__(features)
        self.bad = bad

    def gather(self, indices):
        kept = np.array([i for i in np.asarray(indices).tolist() if i not in self.bad], np.int64)
        return kept, self.features(kept)


def with_bad(pairs, bad):
    features = PartlyBad(pairs.features.stored, set(bad))
    return PreparedPairs(features, pairs.rows, pairs.tokens, pairs.groups, pairs.pad)


def test_bad_pictures_found_on_the_way_are_left_out_as_in_one_process(vlm, pairs):
    """Batch 1 of 3 is all bad, of batch 0 one rank's half is."""
    some = with_bad(pairs, [0, 2, 4, 5, 6, 7])
    learners = [Learner(part_of(range(12)), start(vlm)), Learner(part_of(range(20, 28)), start(vlm))]
    alone = train_cohort(vlm, some, learners, SETTINGS)
    assert [done.update.num_examples for done in alone] == [6, 8]
    for size in (2, 4):
        for shared in trained_by(size, vlm, some, learners, "plain"):
            assert_same(alone, shared)


def test_a_part_without_a_usable_picture_is_the_same_mistake_on_every_rank(vlm, pairs):
    with pytest.raises(UserError, match="no usable picture"):
        trained_by(2, vlm, with_bad(pairs, range(8)), [Learner(part_of(range(8)), start(vlm))], "plain")


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0)


@settings(max_examples=25, deadline=None)
@given(
    sizes=SIZES, ranks=st.integers(1, 8), batch_size=st.integers(1, 9), clients=st.integers(1, 3), seed=st.integers(0)
)
def test_tars_read_on_the_fly_no_pair_twice_or_lost(tmp_path_factory, sizes, ranks, batch_size, clients, seed):
    """Fewer tars than ranks, empty tars, fewer pairs than ranks; clients of one cohort, over a pass of two rounds."""
    tars, expected = write_tars(tmp_path_factory.mktemp("tars"), sizes)
    count = len(expected)
    passes = [
        OnePass(mine, np.ones(len(mine)), rounds=2, batch_size=batch_size, seed=seed)
        for mine in np.array_split(np.arange(count), clients)
    ]
    tokens = TokenTable.of([[1, 2]] * count)

    def reads(rank):
        group, source = Group(), Watched(tars)
        group.rank, group.size = rank, ranks
        pairs = PreparedPairs(OnTheFlyFeatures(source, FakeEncoder()), np.arange(count), tokens, ["all"] * count, 0)
        numbers = []
        for part in range(2):
            batches = [own.batches(part) for own in passes]
            for step in range(max(map(len, batches))):
                own = positions_of_rank(batches, step, group)
                numbers.append(sum(len(pairs.batch(mine).lengths) for mine in own.values()))
        return source.read, numbers

    found = [reads(rank) for rank in range(ranks)]
    assert sorted(key for read, _ in found for key in read) == expected
    assert all(max(numbers) - min(numbers) <= 1 for numbers in zip(*(n for _, n in found), strict=True))
    assert [reads(rank)[0] for rank in range(ranks)] == [read for read, _ in found]


class Recording(FixedFeatures):
    def __init__(self, features):
        super().__init__(features)
        self.read = []

    def gather(self, indices):
        self.read += np.asarray(indices).tolist()
        return super().gather(indices)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_sample_is_read_by_one_rank(vlm, pairs, size):
    """Once for the step and once for the alignment error, by the same rank; the same ones in every run."""
    learners = learners_of(vlm)

    def reads(group):
        features = Recording(pairs.features.stored)
        own = PreparedPairs(features, pairs.rows, pairs.tokens, pairs.groups, pairs.pad)
        train_cohort(copy_of(vlm), own, learners, SETTINGS, group=group)
        return features.read

    by_rank = on_ranks(size, reads)
    once = [sorted(read[: len(read) // 2]) for read in by_rank]
    assert once == [sorted(read[len(read) // 2 :]) for read in by_rank]
    assert sorted(number for numbers in once for number in numbers) == list(range(31))
    assert max(map(len, once)) - min(map(len, once)) <= 4  # one in each of the steps
    assert on_ranks(size, reads) == by_rank


def test_a_step_costs_two_messages(vlm, pairs):
    def messages(group):
        train_cohort(copy_of(vlm), pairs, learners_of(vlm), SETTINGS, group=group)
        return group.sent

    steps = 4
    assert on_ranks(2, messages) == [2 * steps + steps + 1] * 2  # counts and gradients; counts again, and the errors
