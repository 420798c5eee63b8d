"""Many learners on one backbone end where each would end alone."""

import dataclasses

import numpy as np
import pytest
import torch

from fedcmp.client.cohort import Cohort, JointBatch
from fedcmp.client.objectives import available_objectives, create_objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner, Part
from fedcmp.client.step_batches import StepBatches
from fedcmp.client.training import train_cohort
from tests.client.conftest import part_of, start

# 3, 4 and 2 steps, last batches of 4, 1 and 2: learners end at different steps and bring different numbers of samples
PARTS = (part_of(range(12)), part_of(range(12, 25), rate=3e-2), part_of(range(25, 31), rate=5e-3))


def learners_of(vlm, *, first_round=True):
    memory = {"last_projector": start(vlm, 11), "control": {n: t * 1e-2 for n, t in start(vlm, 12).items()}}
    return [Learner(part, start(vlm), None, None if first_round else memory) for part in PARTS]


def assert_equal_to_rounding(alone, together):
    for name, tensor in alone.update.state.items():
        # AdamW magnifies rounding where a gradient is near 0
        torch.testing.assert_close(together.update.state[name], tensor, rtol=2e-3, atol=3e-4)
    assert together.losses == pytest.approx(alone.losses, rel=1e-4)
    assert together.update.num_examples == alone.update.num_examples
    assert together.update.alignment_error == pytest.approx(alone.update.alignment_error, abs=1e-4)
    assert together.change == pytest.approx(alone.change, rel=1e-3)


@pytest.mark.parametrize("name", available_objectives())
@pytest.mark.parametrize("first_round", [True, False])
def test_batched_equals_sequential(vlm, pairs, name, first_round):
    broadcast = {"control": {n: t * 1e-2 for n, t in start(vlm, 13).items()}}
    options = {"broadcast": broadcast, "with_second_moment": True}
    learners = learners_of(vlm, first_round=first_round)
    together = train_cohort(vlm, pairs, learners, Optimisation(), objective=create_objective(name), **options)
    for learner, batched in zip(learners, together, strict=True):
        (alone,) = train_cohort(vlm, pairs, [learner], Optimisation(), objective=create_objective(name), **options)
        assert_equal_to_rounding(alone, batched)
        for label, tensors in (alone.update.extra or {}).items():
            for key, tensor in tensors.items():
                torch.testing.assert_close(batched.update.extra[label][key], tensor, rtol=1e-3, atol=1e-5)
        for key, tensor in alone.update.second_moment.items():
            torch.testing.assert_close(batched.update.second_moment[key], tensor, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("name", available_objectives())
def test_pieces_of_a_step_add_up_to_it(vlm, pairs, name):
    """Pieces of 3 begin in the middle of a learner's batch and end in another's."""
    broadcast = {"control": {n: t * 1e-2 for n, t in start(vlm, 13).items()}}
    learners = learners_of(vlm, first_round=False)
    whole, cut = (
        train_cohort(
            vlm,
            pairs,
            learners,
            Optimisation(),
            objective=create_objective(name),
            broadcast=broadcast,
            micro_batch=micro_batch,
        )
        for micro_batch in (None, 3)
    )
    for one, other in zip(whole, cut, strict=True):
        assert_equal_to_rounding(one, other)


@pytest.mark.parametrize("name", available_objectives())
def test_nothing_sees_more_samples_at_once_than_a_piece_has(vlm, pairs, name, monkeypatch):
    """Gradients, the objective's sums and the alignment errors: memory is that of a micro-batch in all of them."""
    seen = []
    for method in ("project", "_inputs_of_layers"):
        own = getattr(Cohort, method)

        def counting(self, active, batch, own=own):
            features = batch if isinstance(batch, torch.Tensor) else batch.features_ABPV
            seen.append(features.shape[:2].numel())
            return own(self, active, batch)

        monkeypatch.setattr(Cohort, method, counting)
    learners = [Learner(PARTS[0], start(vlm))]
    train_cohort(vlm, pairs, learners, Optimisation(), objective=create_objective(name), micro_batch=3)
    assert max(seen) == 3


def test_features_stay_as_small_as_they_are_stored(vlm, pairs):
    half = dataclasses.replace(pairs.batch(np.arange(4)), features=pairs.batch(np.arange(4)).features.bfloat16())
    batch = JointBatch.of({0: half}, pad=vlm.language.pad, device=torch.device("cpu"))
    assert batch.features_ABPV.dtype == torch.bfloat16
    cohort = Cohort(vlm, [start(vlm)])
    assert cohort.project(cohort.parameters, batch).dtype == torch.float32


def test_pieces_are_the_batch_in_order(vlm, pairs):
    batches = {0: pairs.batch(np.arange(4)), 2: pairs.batch(np.arange(9, 10)), 1: pairs.batch(np.arange(20, 23))}
    batch = JointBatch.of(batches, pad=vlm.language.pad, device=torch.device("cpu"))
    pieces = batch.pieces(3)
    assert [piece.sizes_A.tolist() for piece in pieces] == [[3], [1, 1, 1], [2]]
    assert [piece.learners_A.tolist() for piece in pieces] == [[0], [0, 2, 1], [1]]
    together = torch.cat([piece.samples(piece.features_ABPV) for piece in pieces])
    assert torch.equal(together, batch.samples(batch.features_ABPV))
    assert torch.equal(torch.cat([piece.lengths_S for piece in pieces]), batch.lengths_S)
    for piece, rows in zip(pieces, batch.ids_ST.split(3), strict=True):
        assert torch.equal(piece.ids_ST, rows[:, : piece.ids_ST.shape[1]])
    assert batch.pieces(8) == [batch]


def test_reading_ahead_changes_nothing(vlm, pairs, monkeypatch):
    """As for a GPU, where a thread makes the batches."""
    (plain,) = train_cohort(vlm, pairs, [Learner(PARTS[0], start(vlm))], Optimisation())
    monkeypatch.setattr(StepBatches, "_read_ahead", lambda _self: 2)
    (ahead,) = train_cohort(vlm, pairs, [Learner(PARTS[0], start(vlm))], Optimisation())
    assert all(torch.equal(ahead.update.state[name], tensor) for name, tensor in plain.update.state.items())
    assert ahead.losses == plain.losses


def test_a_start_that_all_share_is_kept_once(vlm):
    state = start(vlm)
    cohort = Cohort(vlm, [state] * 5)
    for name, tensor in cohort.starts.items():
        assert tensor.untyped_storage().nbytes() == state[name].nbytes
        assert cohort.parameters[name].untyped_storage().nbytes() == 5 * state[name].nbytes


def test_learners_may_start_apart(vlm, pairs):
    """As local-only learners do after their first part, each with an optimiser of its own."""
    first = train_cohort(vlm, pairs, [Learner(part, start(vlm)) for part in PARTS], Optimisation())
    later = [
        Learner(part, done.update.state, done.optimizer) for part, done in zip(reversed(PARTS), first, strict=True)
    ]
    together = train_cohort(vlm, pairs, later, Optimisation())
    for learner, batched in zip(later, together, strict=True):
        (alone,) = train_cohort(vlm, pairs, [learner], Optimisation())
        assert_equal_to_rounding(alone, batched)


def test_a_diverged_learner_leaves_the_others_alone(vlm, pairs):
    wild = Learner(part_of(range(25, 37), rate=1e9), start(vlm))
    calm = Learner(PARTS[0], start(vlm))
    _, together = train_cohort(vlm, pairs, [wild, calm], Optimisation())
    (alone,) = train_cohort(vlm, pairs, [calm], Optimisation())
    assert_equal_to_rounding(alone, together)


def test_the_order_of_a_states_tensors_changes_no_bit(vlm, pairs):
    backwards = dict(reversed(start(vlm).items()))
    (first,) = train_cohort(vlm, pairs, [Learner(PARTS[0], start(vlm))], Optimisation(max_gradient_norm=0.05))
    (second,) = train_cohort(vlm, pairs, [Learner(PARTS[0], backwards)], Optimisation(max_gradient_norm=0.05))
    assert all(torch.equal(second.update.state[name], tensor) for name, tensor in first.update.state.items())


def test_the_backbones_own_projector_is_left_alone(vlm, pairs):
    before = vlm.trainable.tensors()
    train_cohort(vlm, pairs, learners_of(vlm), Optimisation())
    assert all(torch.equal(before[name], tensor) for name, tensor in vlm.trainable.tensors().items())


def test_one_empty_part_is_refused(vlm, pairs):
    with pytest.raises(ValueError, match="without pairs"):
        train_cohort(vlm, pairs, [*learners_of(vlm), Learner(Part([], [], {}), start(vlm))], Optimisation())
