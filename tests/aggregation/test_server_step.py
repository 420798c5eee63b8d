"""Server optimisers over rounds, against their formulas; what they remember and refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import ClientUpdate, create

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import StepOracle, one_round

MOMENTUM = st.sampled_from([0.0, 0.3, 0.9, 1.0])
RATE = st.sampled_from([0.01, 0.7, 1.0, 2.5])
OPTIONS = {
    "fedavgm": {"momentum": MOMENTUM, "learning_rate": RATE},
    "diloco": {"momentum": MOMENTUM, "learning_rate": RATE},
    "fedadam": {"learning_rate": RATE, "beta_1": MOMENTUM, "beta_2": MOMENTUM, "tau": st.sampled_from([1e-3, 0.1, 1])},
    "fedyogi": {"learning_rate": RATE, "beta_1": MOMENTUM, "beta_2": MOMENTUM, "tau": st.sampled_from([1e-3, 0.1, 1])},
    "fedswa": {"alpha": RATE},
    "scaffold": {"learning_rate": RATE, "total_clients": st.sampled_from([None, 4, 20])},
}
RULES = st.sampled_from(list(OPTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(OPTIONS[name]))
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RULES, st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_equals_formula_over_rounds(rule, seed, cohorts):
    name, options = rule
    aggregator, oracle = create(name, **options), StepOracle(name, **options)
    start, _, _ = one_round(seed, 1)
    for number, clients in enumerate(cohorts):
        drawn, states, counts = one_round(seed + number, clients)
        states = [{n: start[n] + state[n] - drawn[n] for n in start} for state in states]
        changes = [{n: state[n] - 0.1 for n in start} for state in states] if name == "scaffold" else None
        expected = oracle.round(start, states, counts, changes)
        updates = [
            ClientUpdate(as_tensors(state), count, extra=changes and {"control_change": as_tensors(changes[k])})
            for k, (state, count) in enumerate(zip(states, counts, strict=True))
        ]
        found = aggregator.aggregate(as_tensors(start), updates)
        assert relative_error(found, expected) < 1e-12
        assert aggregator.last_weights == pytest.approx(np.array(counts) / sum(counts))
        if changes:
            sent = aggregator.broadcast(as_tensors(start))["control"]
            assert relative_error(sent, {n: kept["c"] for n, kept in oracle.memory.items()}) < 1e-12
        start = expected


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "ties", "dare", "metagpt"])
def test_transposed_tensors_are_no_different(name):
    def turn(state):
        return {n: tensor.t().contiguous().t() for n, tensor in state.items()}

    start, states, counts = one_round(0, 3)
    plain, turned = create(name), create(name)
    for _ in range(2):
        updates = as_updates(states, counts)
        expected = plain.aggregate(as_tensors(start), updates)
        updates = [ClientUpdate(turn(update.state), update.num_examples) for update in updates]
        found = turned.aggregate(turn(as_tensors(start)), updates)
        assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_memory_of_another_make_is_refused():
    start, states, _ = one_round(0, 2)
    aggregator = create("fedadam")
    aggregator.aggregate(as_tensors(start), [ClientUpdate(as_tensors(states[0]), 1)])
    memory = aggregator.state_dict()
    larger, _, _ = one_round(0, 1, sizes=((3, 2), (2, 5)))
    with pytest.raises(ValueError, match=r"linear_1\.weight is \(2, 5\), but the rounds before had \(2, 4\)"):
        aggregator.begin(as_tensors(larger))
    with pytest.raises(ValueError, match=r"norm\.scale is missing, but the rounds before had \(3,\)"):
        aggregator.begin({name: tensor for name, tensor in as_tensors(start).items() if name != "norm.scale"})
    with pytest.raises(ValueError, match=r"entry 'first_moment\.linear_0\.weight' is not this method's"):
        create("fedavgm").load_state_dict(memory)
    torn = {entry: tensor for entry, tensor in memory.items() if entry != "second_moment.norm.scale"}
    with pytest.raises(ValueError, match=r"entry 'second_moment\.norm\.scale' is missing"):
        create("fedyogi").load_state_dict(torn)
    create("fedyogi").load_state_dict(memory)  # Yogi's slots are Adam's


def test_refused_result_leaves_memory_and_sums_as_they_were():
    start = {"weight": torch.full((3,), 6e4, dtype=torch.float16)}
    down, up = (ClientUpdate({"weight": torch.full((3,), value, dtype=torch.float16)}, 1) for value in (5.12e4, 6.4e4))
    aggregator = create("fedavgm", learning_rate=2.0)
    aggregator.aggregate(start, [down])  # the velocity is now -8.8e3
    before = aggregator.state_dict()
    aggregator.begin(start)
    aggregator.add(ClientUpdate({"weight": -start["weight"]}, 1))
    with pytest.raises(ValueError, match=r"merged weight: its values do not fit torch\.float16"):
        aggregator.finish()
    after = aggregator.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[entry], before[entry]) for entry in before)
    for _ in range(100):  # the round is still open
        aggregator.add(up)
    # D = (100 * 4e3 - 1.2e5) / 101,  v = 0.9 * -8.8e3 + D,  theta = 6e4 + 2 v
    assert float(aggregator.finish()["weight"][0]) == pytest.approx(6e4 + 2 * (-7.92e3 + 2.8e5 / 101), rel=1e-3)
