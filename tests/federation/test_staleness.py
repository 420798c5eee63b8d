"""What a late update counts for: against the formula in NumPy, and the laws of a buffer."""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.federation.staleness import discount, late_update
from fedcmp.wire.messages import Reply
from fedcmp.wire.payload import decode, encode
from tests.federation.asynchronous import FedBuff, reply_to, server, small_recipe, tensors


def test_the_discount_is_fedbuffs():
    assert discount(0, 0.5) == 1.0
    assert discount(3, 0.5) == 0.5
    assert discount(7, 0.0) == 1.0
    assert discount(4, 1.0) == 0.2
    assert [discount(age, 0.5) for age in range(9)] == pytest.approx([1 / math.sqrt(1 + age) for age in range(9)])


@pytest.mark.parametrize("form", ["whole", "float32", "bfloat16", "int8"])
def test_a_late_update_moves_the_present_tensors_by_its_share_of_what_it_changed(form):
    start, now, change = tensors(1), tensors(2), tensors(3)
    if form == "whole":
        sent = {"state": {name: start[name] + change[name] for name in start}}
        reply, tolerance = Reply(1, 0, 8, 0.5, **sent), 1e-6
    else:
        reply, tolerance = Reply(1, 0, 8, 0.5, update=encode(change, form)), {"float32": 1e-12}.get(form, 2e-2)
    update = late_update(reply, start=start, now=now, share=0.25)
    for name, tensor in update.state.items():
        wanted = now[name].double().numpy() + 0.25 * change[name].double().numpy()
        assert tensor.dtype == torch.float64
        np.testing.assert_allclose(tensor.numpy(), wanted, atol=tolerance)


def test_what_does_not_fit_is_left_to_the_rule():
    start, now = tensors(1), tensors(2)
    missing = Reply(1, 0, 8, 0.5, state={"linear.weight": start["linear.weight"]})
    assert late_update(missing, start=start, now=now, share=0.5).state == missing.state
    whole_numbers = {name: tensor.to(torch.int32) for name, tensor in start.items()}
    assert late_update(Reply(1, 0, 8, 0.5, state=whole_numbers), start=start, now=now, share=0.5).state == whole_numbers


SCHEDULES = st.lists(st.integers(0, 4), min_size=1, max_size=40)  # who replies next


@settings(deadline=None, max_examples=60)
@given(SCHEDULES, st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0, 2.5]), st.booleans())
def test_any_schedule_merges_as_fedbuff(schedule, buffer, exponent, rounded):
    """Replies in any order, some clients a dozen versions behind others."""
    payload = {"payload": "int8", "broadcast_payload": "float32"} if rounded else {}
    recipe = small_recipe(5, 12, buffer_size=buffer, staleness_discount=exponent, **payload)
    with tempfile.TemporaryDirectory() as folder:
        side = server(Path(folder), recipe)
        oracle = FedBuff(side.states["global"], exponent=exponent)
        out = {}  # client -> its assignment and its version
        for number, client in enumerate(schedule):
            fresh = side.hand_out(0.0)
            out |= {c: (assignment, oracle.version) for c, assignment in fresh.items()}
            if client not in out:  # it has done all its parts
                continue
            assignment, version = out.pop(client)
            change, examples = tensors(100 + number), 1 + number % 7
            form = "int8" if rounded else "float32"
            assert side.receive(reply_to(client, assignment, change, examples=examples, form=form)) == ""
            if rounded:
                change = decode(encode(change, form))
            oracle.add(change, examples=examples, version=version)
            if side.is_full:
                side.close()
                oracle.merge()
                side.settled()
                side.open(oracle.version + 1, [])
                for name, tensor in side.states["global"].items():
                    np.testing.assert_allclose(tensor.double().numpy(), oracle.model[name], atol=2e-5)


def merged(folder, order, *, exponent, changes, examples, method="fedavg"):
    """The tensors after a buffer of replies of staleness 0 to 2, received in an order."""
    recipe = small_recipe(6, 4, method=method, buffer_size=2, staleness_discount=exponent)
    side = server(folder, recipe)
    first = side.hand_out(0.0)
    for client, merge in ((0, 1), (1, 1), (2, 2), (3, 2)):
        side.receive(reply_to(client, first[client], tensors(50 + client)))
        if side.is_full:
            side.close()
            side.settled()
            side.open(merge + 1, [])
    before = side.states["global"]
    second = side.hand_out(0.0)
    assignments = [first[4], second[0]]
    for place in order:
        client = (4, 0)[place]
        side.receive(reply_to(client, assignments[place], changes[place], examples=examples[place]))
    records = side.close()
    ages = {record.client: record.staleness for record in records[:-1]}
    assert ages == {4: 2, 0: 0}
    return before, side.states["global"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(["fedavg", "fedadam", "ties", "fedcmp", "knots-ties"]))
def test_the_order_within_a_buffer_does_not_matter(seed, method):
    changes, examples = [tensors(seed), tensors(seed + 1)], [1 + seed % 5, 3]
    found = []
    for order in itertools.permutations(range(2)):
        with tempfile.TemporaryDirectory() as folder:
            found.append(
                merged(Path(folder), order, exponent=0.5, changes=changes, examples=examples, method=method)[1]
            )
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
def test_without_a_discount_a_merge_adds_the_plain_mean_of_the_changes(seed, a, b):
    """However old they are."""
    changes = [tensors(seed), tensors(seed + 1)]
    with tempfile.TemporaryDirectory() as folder:
        before, after = merged(Path(folder), (0, 1), exponent=0.0, changes=changes, examples=[a, b])
    for name in after:
        mean = (a * changes[0][name].double() + b * changes[1][name].double()) / (a + b)
        torch.testing.assert_close(after[name].double(), before[name].double() + mean, rtol=0, atol=2e-6)


def test_a_larger_exponent_takes_less_of_an_old_update(tmp_path):
    changes, zero = [tensors(7), tensors(8)], {name: tensor * 0 for name, tensor in tensors(8).items()}
    steps = []
    for number, exponent in enumerate((0.0, 0.5, 2.0)):
        before, after = merged(
            tmp_path / str(number), (0, 1), exponent=exponent, changes=[changes[0], zero], examples=[8, 8]
        )
        steps.append(float((after["linear.weight"] - before["linear.weight"]).norm()))
    assert steps[1] == pytest.approx(steps[0] * 3**-0.5, rel=1e-4)
    assert steps[2] == pytest.approx(steps[0] / 9, rel=1e-4)
