"""Rules see named tensors, not a projector: other names, other shapes, any order."""

import pytest
import torch

from fedcmp.aggregation import available, create

from .test_halves import draw_state, draw_updates

EXTRA = ("prompt.token", "adapter.lora_A", "scale")  # one dimension; two, but not X.weight; none
DISAGREED = {"model-stock"}  # leaves a tensor where it is on which clients do not agree, as on a lone number
METHODS = available()
# without chance and trimming, so that every client has a say in every entry
ALL_KEPT = {"dare": {"drop": 0.0}, "dare-ties": {"drop": 0.0, "density": 1.0}}
ALL_KEPT |= {"ties": {"density": 1.0}, "knots-ties": {"density": 1.0}}


def turned(update, names):
    """Return the update with its tensors in another order."""
    extra = {label: {n: tensors[n] for n in names if n in tensors} for label, tensors in update.extra.items()}
    fields = update.state, update.second_moment
    state, moment = ({n: tensors[n] for n in names} for tensors in fields)
    return type(update)(state, update.num_examples, update.alignment_error, moment, extra)


@pytest.mark.parametrize("name", METHODS)
def test_every_rule_takes_tensors_that_are_no_layers(name):
    rule, start = create(name, **ALL_KEPT.get(name, {})), draw_state(0)
    for number in range(2):
        merged = rule.aggregate(start, draw_updates(number, 3, start))
        assert {n: t.shape for n, t in merged.items()} == {n: t.shape for n, t in start.items()}
        for extra in EXTRA:
            assert torch.isfinite(merged[extra]).all()
            assert name in DISAGREED or not torch.equal(merged[extra], start[extra])
        start = merged


@pytest.mark.parametrize("name", METHODS)
def test_no_rule_depends_on_the_order_of_tensors(name):
    plain, other = create(name), create(name)
    start = draw_state(1)
    names = sorted(start, reverse=True)
    for number in range(2):
        updates = draw_updates(number, 3, start)
        expected = plain.aggregate(start, updates)
        found = other.aggregate({n: start[n] for n in names}, [turned(update, names) for update in updates])
        assert list(found) == names
        assert all(torch.equal(found[n], tensor) for n, tensor in expected.items())
        start = expected


@pytest.mark.parametrize("name", METHODS)
def test_no_rule_depends_on_the_names_of_layers(name):
    """Only that a matrix is called X.weight, and its bias X.bias, means something."""
    renamed = {"linear_1": "vision.proj", "linear_2": "a"}

    def rename(tensors):
        return {
            f"{renamed.get(n.rpartition('.')[0], n.rpartition('.')[0])}.{n.rpartition('.')[2]}": t
            for n, t in tensors.items()
        }

    options = ALL_KEPT.get(name, {})  # DARE's choice is by name
    plain, other = create(name, **options), create(name, **options)
    start = draw_state(2)
    for number in range(2):
        updates = draw_updates(number, 3, start)
        expected = plain.aggregate(start, updates)
        named = [
            type(u)(
                rename(u.state), u.num_examples, u.alignment_error, rename(u.second_moment),
                {label: rename(tensors) for label, tensors in u.extra.items()},
            )
            for u in updates
        ]  # fmt: skip
        found = other.aggregate(rename(start), named)
        assert all(torch.equal(found[n], tensor) for n, tensor in rename(expected).items())
        start = expected
