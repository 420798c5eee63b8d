"""shared-basis at fewer bytes: what is not asked for plays no part, and both sides use one rounded basis."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from fedcmp.aggregation import ClientUpdate, create
from fedcmp.aggregation.input_space import as_orthogonal, orthonormal
from fedcmp.aggregation.labels import BASIS, GRAM, SECOND_MOMENT
from fedcmp.wire.payload import decode, encode
from tests.aggregation.test_shared_basis import draw_round, draw_state, tensors, updates_of


def without(update, label):
    extra = {name: sent for name, sent in update.extra.items() if name != label}
    return ClientUpdate(update.state, update.num_examples, extra=extra or None)


def rounds(rule, count, *, change=lambda update, rule: update):
    """Merge some rounds; the global tensors after each."""
    state, out = tensors(draw_state(np.random.default_rng(0))), []
    for number in range(count):
        updates = [change(update, rule) for update in updates_of(draw_round(number + 1))]
        state = rule.aggregate(state, updates)
        out.append(state)
    return out


def rotation(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def test_gram_matrices_are_asked_for_every_nth_round_and_the_basis_stays_in_between():
    rule, asked, bases = create("shared-basis", every=3), [], []
    state = tensors(draw_state(np.random.default_rng(0)))
    for number in range(7):
        asked.append(GRAM in rule.asked())
        updates = [u if asked[-1] else without(u, GRAM) for u in updates_of(draw_round(number + 1))]
        state = rule.aggregate(state, updates)
        bases.append(rule.broadcast(state)[BASIS]["linear_1.weight"])
    assert asked == [True, False, False, True, False, False, True]
    same = [torch.equal(one, other) for one, other in itertools.pairwise(bases)]
    assert same == [True, True, False, True, True, False]


def test_every_first_round_is_the_rule_as_it_was():
    whole = rounds(create("shared-basis"), 4)
    assert all(
        torch.equal(a[n], b[n])
        for a, b in zip(whole, rounds(create("shared-basis", every=1), 4), strict=True)
        for n in a
    )


def test_a_gram_matrix_that_was_asked_for_and_is_missing_is_refused():
    rule = create("shared-basis", every=2)
    rule.begin(tensors(draw_state(np.random.default_rng(0))))
    with pytest.raises(ValueError, match=r"client 0: extra input_gram of linear_1\.weight is missing"):
        rule.add(without(updates_of(draw_round(1))[0], GRAM))


def test_without_weights_no_second_moments_are_asked_for_and_none_play_a_part():
    rule = create("shared-basis", exponent=0.0)
    assert rule.extras == {GRAM}
    silent = rounds(rule, 3, change=lambda update, _: without(update, SECOND_MOMENT))
    told = rounds(create("shared-basis", exponent=0.0), 3)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(silent, told, strict=True) for name in a)


@pytest.mark.parametrize("payload", ["bfloat16", "int8"])
def test_what_is_broadcast_is_rounded_and_both_sides_make_the_same_orthogonal_basis_of_it(payload):
    rule = create("shared-basis", payload=payload)
    (state,) = rounds(rule, 1)
    wide = {name: tensor.float() for name, tensor in state.items()}
    sent = rule.broadcast(wide)[BASIS]
    assert {label: rule.public_payloads.get(label) for label in rule.sends} == {
        BASIS: payload,
        "canonical_stretch": None,
    }
    arrived = decode(encode(sent, payload))
    for name, basis in arrived.items():
        torch.testing.assert_close(basis, sent[name], rtol=1e-6, atol=0)  # rounding again changes nothing
        mine, theirs = as_orthogonal(basis), rule._space.bases[name]
        torch.testing.assert_close(mine.double(), theirs, rtol=0, atol=2e-6)
        identity = torch.eye(len(theirs), dtype=theirs.dtype)
        torch.testing.assert_close(theirs.T @ theirs, identity, rtol=0, atol=1e-10)
        assert (basis.T @ basis - identity.float()).abs().max() > 1e-4  # else the test tells nothing


@pytest.mark.parametrize("options", [{"payload": "int8"}, {"every": 2}, {"payload": "bfloat16", "every": 3}])
def test_a_stopped_rule_goes_on_to_the_same_bits(options):
    whole = rounds(create("shared-basis", **options), 4)
    first = create("shared-basis", **options)
    rounds(first, 2)
    second = create("shared-basis", **options)
    second.load_state_dict(load(save(first.state_dict())))
    state = whole[1]
    for number in (3, 4):
        state = second.aggregate(state, updates_of(draw_round(number)))
    assert all(torch.equal(state[name], whole[3][name]) for name in state)


@given(size=st.integers(2, 40), seed=st.integers(0, 2**32), noise=st.floats(0, 0.02))
def test_the_orthogonal_matrix_next_to_one_is_its_polar_factor(size, seed, noise):
    generator = torch.Generator().manual_seed(seed)
    near = rotation(size, seed) + noise * torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    u, _, vt = np.linalg.svd(near.numpy())
    np.testing.assert_allclose(orthonormal(near).numpy(), u @ vt, atol=1e-9)


def test_a_basis_of_float32_is_used_as_it_is():
    basis = rotation(65, 1).float()
    assert as_orthogonal(basis) is basis


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every = 0"),
        ({"every": 1.5}, r"every = 1.5: must be a whole number"),
        ({"payload": "int4"}, "payload = 'int4'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create("shared-basis", **options)
