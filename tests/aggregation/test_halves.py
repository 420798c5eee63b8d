"""A rule in two halves: what clients contribute adds up, in any tree, to what add() folds in one by one."""

import copy
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import Aggregator, ClientUpdate, KnotsTies, Public, Svc, Tsv, available, create, describe
from fedcmp.aggregation.matrices import find_matrices

SHAPES = {
    "linear_1.weight": (6, 4),
    "prompt.token": (5,),
    "linear_1.bias": (6,),
    "linear_2.weight": (5, 6),
    "linear_2.bias": (5,),
    "adapter.lora_A": (2, 7),  # two dimensions, but no X.weight
    "scale": (),
}
RULES = [
    *((name, {}) for name in available() if describe(name).factory.adds_up == "in one exchange"),
    ("fedcmp", {"space": "updates", "rank": 3, "tail": "average", "matching": "procrustes"}),
    ("fedcmp", {"magnitude_cap": 0.5, "parameter_exponent": 1.0}),
    ("fedcmp", {"basis": "none", "reliability": "quality"}),
    ("fisher", {"momentum": True}),
    ("shared-basis", {"space_momentum": 0.6, "exponent": 0.5}),
    ("scaffold", {"total_clients": 40}),
    ("ties", {"density": 1.0}),
    ("dare", {"seed": 7, "drop": 0.8}),
    ("regmean", {"off_diagonal": 0.1, "damping": 0.1}),
    ("wudi", {"steps": 20, "learning_rate": 0.01}),
]


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_state(seed):
    return {name: draw(seed * 100 + i, *shape) for i, (name, shape) in enumerate(SHAPES.items())}


def draw_updates(seed, clients, start, *, still=False):
    updates = []
    for k in range(clients):
        change = draw_state(seed * 50 + k)
        squares = {name: tensor.square() for name, tensor in draw_state(seed * 50 + k + 25).items()}
        extra = {"control_change": draw_state(seed * 50 + k + 12), "canonical_second_moment": {}, "input_gram": {}}
        for matrix in find_matrices(start, bias="column"):
            outputs, inputs = SHAPES[matrix.weight]
            fed = draw(seed + k, 9, inputs + 1)
            extra["input_gram"][matrix.weight] = fed.T @ fed / 9
            extra["canonical_second_moment"][matrix.weight] = draw(seed + k + 1, outputs, inputs + 1).square()
        state = {name: tensor + (0.0 if still else 0.1) * change[name] for name, tensor in start.items()}
        updates.append(ClientUpdate(state, 3 * k + 2, 0.1 * k, squares, extra))
    return updates


def add_up(contributions, cuts):
    """Add the contributions up in the tree that the cuts give: each pair of neighbours is joined until one is left."""
    parts = list(contributions)
    for cut in cuts:
        if len(parts) > 1:
            at = cut % (len(parts) - 1)
            left, right = parts[at : at + 2]
            parts[at : at + 2] = [{name: left[name] + right[name] for name in reversed(left)}]
    return parts


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12)


def everything(aggregator, merged):
    """What a round leaves behind, but for signs of the bases' columns and what is known of single clients."""
    memory = {entry: t for entry, t in aggregator.state_dict().items() if entry != "median_magnitude"}
    return merged | {entry: t.abs() if entry.startswith("basis.") else t for entry, t in memory.items()}


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**4), st.integers(1, 7), st.randoms(use_true_random=False))
def test_contributions_added_in_any_tree_equal_the_flat_result(name, options, seed, clients, random):
    flat, summing, client = (create(name, **options) for _ in range(3))
    start = draw_state(seed)
    for number in range(2):
        updates = draw_updates(seed + number, clients, start)
        flat.begin(start)
        for update in updates:
            flat.add(update)
        summing.begin(start)
        contributions = [client.contribution(update, summing.public()) for update in updates]
        random.shuffle(contributions)
        # down to one sum, or stopped on the way: then the server adds up the rest
        for part in add_up(contributions, [random.randrange(99) for _ in range(random.choice([clients, 2]))]):
            summing.accumulate(part)
        expected, found = flat.finish(), summing.finish()
        assert_close(everything(summing, found), everything(flat, expected))
        assert summing.last_diagnostics == pytest.approx(flat.last_diagnostics, rel=1e-6, abs=1e-9)
        # where only sums were known, the cap's median is replaced by the mean: the rounds part there
        summing.load_state_dict(flat.state_dict())
        start = expected


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
def test_a_contribution_depends_on_the_update_what_is_public_and_the_options_only(name, options):
    """A client's aggregator has seen no round, or is in the midst of another one: neither matters."""
    server, fresh, busy = (create(name, **options) for _ in range(3))
    start = draw_state(1)
    server.aggregate(start, draw_updates(1, 3, start))
    server.begin(start)
    public = server.public()
    busy.begin({name: tensor + 1 for name, tensor in start.items()})
    before = busy.state_dict()
    (update,) = draw_updates(2, 1, start)
    kept_update, kept_public = copy.deepcopy(update), copy.deepcopy(public)
    first, second, third = (rule.contribution(update, public) for rule in (fresh, busy, server))
    for other in (second, third, fresh.contribution(update, public)):
        assert other.keys() == first.keys()
        assert all(torch.equal(other[n], tensor) for n, tensor in first.items())
    assert busy.state_dict().keys() == before.keys()
    # neither the inputs nor, through the contribution, the round can be changed
    for tensor in first.values():
        tensor.fill_(7)
    assert all(torch.equal(update.state[n], tensor) for n, tensor in kept_update.state.items())
    assert all(torch.equal(update.second_moment[n], t) for n, t in kept_update.second_moment.items())
    assert all(torch.equal(update.extra[label][n], t) for label, ts in kept_update.extra.items() for n, t in ts.items())
    assert all(torch.equal(public.state[n], tensor) for n, tensor in kept_public.state.items())
    assert all(
        torch.equal(public.tensors[label][n], t) for label, ts in kept_public.tensors.items() for n, t in ts.items()
    )
    assert all(not torch.equal(tensor, third[n]) for n, tensor in first.items() if tensor.numel())
    straight = create(name, **options)
    straight.load_state_dict(server.state_dict())
    expected = straight.aggregate(start, [update])
    server.accumulate(second)
    for tensor in second.values():
        tensor.fill_(7)
    assert_close(server.finish(), expected)


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
def test_shares_are_known_of_single_contributions_and_not_of_their_sums(name, options):
    flat, single, summed = (create(name, **options) for _ in range(3))
    start = draw_state(3)
    updates = draw_updates(3, 3, start)
    flat.aggregate(start, updates)
    for rule, joins in ((single, []), (summed, [0])):
        rule.begin(start)
        for part in add_up([rule.contribution(update, rule.public()) for update in updates], joins):
            rule.accumulate(part)
        rule.finish()
    assert single.last_weights == pytest.approx(flat.last_weights)
    assert summed.last_weights == []


@pytest.mark.parametrize(("name", "options"), RULES, ids=str)
def test_a_round_in_which_nobody_moves_adds_up_too(name, options):
    flat, summing = create(name, **options), create(name, **options)
    start = draw_state(4)
    updates = draw_updates(4, 3, start, still=True)
    expected = flat.aggregate(start, updates)
    summing.begin(start)
    for part in add_up([summing.contribution(update, summing.public()) for update in updates], [0, 0]):
        summing.accumulate(part)
    assert_close(summing.finish(), expected)


@pytest.mark.parametrize("magnitudes_known", [True, False])
def test_the_next_rounds_cap_is_of_the_median_or_of_the_mean_of_a_sum(magnitudes_known):
    rule = create("fedcmp", magnitude_cap=2.0)
    start = draw_state(5)
    updates = draw_updates(5, 3, start)
    m = [sum(float((u.state[n] - start[n]).square().sum()) for n in start) for u in updates]
    rule.begin(start)
    assert rule.public().scalars == {}
    for part in add_up([rule.contribution(u, rule.public()) for u in updates], [] if magnitudes_known else [0, 0]):
        rule.accumulate(part)
    rule.finish()
    rule.begin(start)
    expected = 2 * (sorted(m)[1] if magnitudes_known else sum(m) / 3)
    assert rule.public().scalars == {"magnitude_limit": pytest.approx(expected)}


def test_the_basis_may_travel_in_single_precision():
    """What is broadcast is rounded to the tensors' dtype; the contribution is then good to that."""
    start = {name: tensor.float() for name, tensor in draw_state(6).items()}
    flat, summing = create("shared-basis"), create("shared-basis")
    for rule in (flat, summing):
        rule.aggregate(start, draw_updates(6, 2, start))
    received = Public(start, 1, summing.broadcast(start))
    updates = draw_updates(7, 2, start)
    expected = flat.aggregate(start, updates)
    summing.begin(start)
    for update in updates:
        summing.accumulate(summing.contribution(update, received))
    found = summing.finish()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)


class Middle(Aggregator):
    def _begin(self, global_state):
        self._states = []

    def _add(self, place, update):
        self._states.append(update.state)

    def _merge(self):
        return {name: torch.stack([state[name] for state in self._states]).median(0).values for name in self._global}


@pytest.mark.parametrize(
    ("create_rule", "why"),
    [
        (KnotsTies, "KnotsTies adds up in two exchanges only"),
        (Svc, "Svc adds up in two exchanges only"),
        (Tsv, "Tsv does not add up over clients"),
        (Middle, "Middle does not add up over clients"),
    ],
)
def test_a_rule_that_is_no_sum_says_so_in_both_halves(create_rule, why):
    start = draw_state(8)
    updates = draw_updates(8, 3, start)
    rule = create_rule()
    rule.begin(start)
    contribution = create("fedavg").contribution(updates[0], rule.public())
    for call in (lambda: rule.contribution(updates[0], rule.public()), lambda: rule.accumulate(contribution)):
        with pytest.raises(ValueError, match=f"^{why}.*choose a method that adds up in one exchange"):
            call()
    for update in updates:  # the round is as it was
        rule.add(update)
    expected = create_rule().aggregate(start, updates)
    assert all(torch.equal(tensor, expected[n]) for n, tensor in rule.finish().items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda sums: sums.pop("delta.prompt.token"), r"tensor delta\.prompt\.token is missing"),
        (lambda sums: sums.pop("weight"), "tensor weight is missing"),
        (lambda sums: sums.update(more=torch.ones(2)), "extra tensor more"),
        (lambda sums: sums.update({"delta.scale": torch.ones(2)}), r"delta\.scale has shape \(2,\)"),
        (lambda sums: sums["delta.prompt.token"].fill_(torch.inf), r"delta\.prompt\.token holds 5 NaN or infinite"),
        (lambda sums: sums["clients"].fill_(0), r"clients = 0\.0: must be a whole number, at least 1"),
        (lambda sums: sums["clients"].fill_(1.5), r"clients = 1\.5: must be a whole number"),
        (lambda sums: sums["weight"].fill_(-1), r"weight = -1\.0: must be at least 0"),
    ],
)
def test_a_bad_contribution_is_refused_with_its_index_and_leaves_no_trace(spoil, message):
    start = draw_state(9)
    updates = draw_updates(9, 3, start)
    rule, without = create("fedavg"), create("fedavg")
    for each in (rule, without):
        each.begin(start)
        each.accumulate(each.contribution(updates[0], each.public()))
    bad = rule.contribution(updates[1], rule.public())
    spoil(bad)
    with pytest.raises(ValueError, match=f"^contribution 1: {message}"):
        rule.accumulate(bad)
    for each in (rule, without):
        each.add(updates[2])
    found, expected = rule.finish(), without.finish()
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    assert rule.last_weights == without.last_weights == pytest.approx([2 / 10, 8 / 10])


def test_a_sum_may_leave_single_precisions_range():
    start = {"w": torch.zeros(2, dtype=torch.float64)}
    rule = create("fedavg")
    rule.begin(start)
    update = ClientUpdate({"w": torch.full((2,), 3e38, dtype=torch.float64)}, 10**9)
    rule.accumulate(rule.contribution(update, rule.public()))
    assert rule.finish()["w"].tolist() == pytest.approx([3e38] * 2)


def test_a_bad_update_is_refused_where_it_is_made():
    start = draw_state(10)
    (update,) = draw_updates(10, 1, start)
    public = Public(start)
    with pytest.raises(ValueError, match=r"^this client: scale holds 1 NaN"):
        create("fedavg").contribution(ClientUpdate(update.state | {"scale": torch.tensor(torch.nan)}, 1), public)
    with pytest.raises(ValueError, match=r"^this client: second_moment of linear_1\.weight is missing"):
        create("fisher").contribution(ClientUpdate(update.state, 1), public)


def test_more_clients_than_the_federation_has_are_refused_in_a_sum_too():
    start = draw_state(11)
    rule = create("scaffold", total_clients=2)
    rule.begin(start)
    (total,) = add_up([rule.contribution(u, rule.public()) for u in draw_updates(11, 3, start)], [0, 0])
    with pytest.raises(ValueError, match="contribution 0: the round has more clients than total_clients = 2"):
        rule.accumulate(total)


def test_halves_outside_a_round_say_so():
    for call in (lambda rule: rule.public(), lambda rule: rule.accumulate({})):
        with pytest.raises(RuntimeError, match="call begin"):
            call(create("fedavg"))


def test_the_docs_say_of_every_method_whether_it_adds_up():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (in one exchange|in two exchanges|no) \|", text, re.MULTILINE))
    assert rows == {name: describe(name).factory.adds_up for name in available()}
