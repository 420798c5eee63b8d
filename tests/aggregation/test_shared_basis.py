"""The shared basis against the formulas in NumPy, and the laws that it keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from fedcmp.aggregation import ClientUpdate, SharedBasis, create

LAYERS = {"linear_1": (4, 3), "linear_2": (4, 4)}
OPTIONS = (
    {},
    {"normalise": False},
    {"exponent": 0.5, "momentum": 0.0, "server_rate": 1.0},
    {"space_momentum": 0.6, "damping": 0.2},
)


def draw_state(rng):
    state = {}
    for layer, (outputs, inputs) in LAYERS.items():
        state |= {f"{layer}.weight": rng.normal(size=(outputs, inputs)), f"{layer}.bias": rng.normal(size=outputs)}
    return state


def draw_round(seed, clients=3):
    """Clients' states, counts, second moments in canonical coordinates and input Grams."""
    rng = np.random.default_rng(seed)
    states = [draw_state(rng) for _ in range(clients)]
    counts = rng.integers(1, 20, size=clients).tolist()
    moments = [{f"{x}.weight": rng.exponential(size=(o, i + 1)) for x, (o, i) in LAYERS.items()} for _ in states]
    fed = [{f"{x}.weight": rng.normal(size=(9, i + 1)) for x, (_, i) in LAYERS.items()} for _ in states]
    grams = [{name: x.T @ x / len(x) for name, x in each.items()} for each in fed]
    return states, counts, moments, grams


def tensors(arrays):
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in arrays.items()}


def updates_of(drawn):
    return [
        ClientUpdate(tensors(state), count, extra={"canonical_second_moment": tensors(v), "input_gram": tensors(gram)})
        for state, count, v, gram in zip(*drawn, strict=True)
    ]


class Oracle:
    """The formulas of docs/methods.md, matrix by matrix."""

    def __init__(
        self, *, exponent=1.0, damping=0.01, normalise=True, space_momentum=0.0, momentum=0.5, server_rate=0.7
    ):
        self.options = exponent, damping, space_momentum, momentum, server_rate
        self.normalise = normalise
        self.space, self.velocity = {}, {}

    def round(self, start, states, counts, moments, grams):
        p, damping, b, m, s = self.options
        a = np.array(counts) / sum(counts)
        out = {}
        for layer in LAYERS:
            name, bias = f"{layer}.weight", f"{layer}.bias"

            def join(state, name=name, bias=bias):
                return np.column_stack([state[name], state[bias]])

            vectors = np.eye(LAYERS[layer][1] + 1)
            if name in self.space:
                values, vectors = np.linalg.eigh(self.space[name])
                vectors = vectors[:, np.argsort(-values)]
            powers = [v[name] ** p for v in moments]
            if self.normalise:
                powers = [power / power.mean() for power in powers]
            extra = damping * sum(ak * power for ak, power in zip(a, powers, strict=True)).mean()
            top, bottom = 0.0, 0.0
            for ak, state, power in zip(a, states, powers, strict=True):
                top = top + ak * (power + extra) * ((join(state) - join(start)) @ vectors)
                bottom = bottom + ak * (power + extra)
            step = (top / bottom) @ vectors.T
            self.velocity[name] = m * self.velocity.get(name, 0.0) + step
            merged = join(start) + s * (m * self.velocity[name] + step)
            out[name], out[bias] = merged[:, :-1], merged[:, -1]
            traces = [np.trace(gram[name]) if self.normalise else 1.0 for gram in grams]
            pooled = sum(ak * gram[name] / trace for ak, gram, trace in zip(a, grams, traces, strict=True))
            pooled = pooled / np.trace(pooled)
            self.space[name] = b * self.space.get(name, pooled) + (1 - b) * pooled
        return out


def assert_equal(merged, expected, tolerance=1e-9):
    for name, array in expected.items():
        np.testing.assert_allclose(merged[name].numpy(), array, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_the_formula_over_several_rounds(options):
    ours, oracle = SharedBasis(**options), Oracle(**options)
    start = draw_state(np.random.default_rng(99))
    for seed in range(4):
        drawn = draw_round(seed)
        expected = oracle.round(start, *drawn)
        merged = ours.aggregate(tensors(start), updates_of(drawn))
        assert_equal(merged, expected)
        start = expected
    broadcast = ours.broadcast(tensors(start))
    for name, basis in broadcast["canonical_basis"].items():
        space = oracle.space[name]
        rotated = basis.numpy().T @ space @ basis.numpy()
        energies = np.sort(np.linalg.eigvalsh(space))[::-1]
        np.testing.assert_allclose(rotated, np.diag(energies), atol=1e-9)
        stretch = np.sqrt(np.diag(space)).sum() / np.sqrt(energies.clip(0)).sum()
        np.testing.assert_allclose(broadcast["canonical_stretch"][name].numpy(), stretch, rtol=1e-6)
        assert stretch >= 1


@pytest.mark.parametrize("exponent", [1.0, 0.5, 2.0])
def test_no_client_can_raise_its_share_by_reporting_larger_second_moments(exponent):
    states, counts, moments, grams = draw_round(3)
    louder = [[{name: x * 1e4 for name, x in first.items()}, *others] for first, *others in (moments, grams)]
    start = tensors(draw_state(np.random.default_rng(1)))
    honest, loud = SharedBasis(exponent=exponent), SharedBasis(exponent=exponent)
    merged = honest.aggregate(start, updates_of((states, counts, moments, grams)))
    shouted = loud.aggregate(start, updates_of((states, counts, *louder)))
    assert_equal(shouted, {name: tensor.numpy() for name, tensor in merged.items()})
    for label, sent in honest.broadcast(start).items():
        assert_equal(loud.broadcast(start)[label], {name: tensor.numpy() for name, tensor in sent.items()}, 1e-6)


def test_a_client_that_reports_no_second_moments_weighs_nothing_and_harms_nobody():
    states, counts, moments, grams = draw_round(4)
    silent = [{name: v * 0 for name, v in moments[0].items()}, *moments[1:]]
    start = tensors(draw_state(np.random.default_rng(1)))
    merged = SharedBasis(damping=0.0).aggregate(start, updates_of((states, counts, silent, grams)))
    others = SharedBasis(damping=0.0).aggregate(start, updates_of((states, counts, silent, grams))[1:])
    assert_equal(merged, {name: tensor.numpy() for name, tensor in others.items()})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_the_order_of_clients_does_not_matter(seed, order):
    first, second = SharedBasis(), SharedBasis()
    start = draw_state(np.random.default_rng(seed))
    for number in range(2):
        updates = updates_of(draw_round(seed + number, clients=4))
        one = first.aggregate(tensors(start), updates)
        other = second.aggregate(tensors(start), [updates[i] for i in order])
        assert_equal(other, {name: tensor.numpy() for name, tensor in one.items()})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_equal_clients_are_a_fixed_point_without_momentum(seed, clients):
    rule = SharedBasis(momentum=0.0, server_rate=1.0)
    start = draw_state(np.random.default_rng(seed))
    for number in range(2):  # the second round has a basis
        drawn = draw_round(seed + number, clients=1)
        merged = rule.aggregate(tensors(start), updates_of([part * clients for part in drawn]))
        assert_equal(merged, drawn[0][0])


def test_the_basis_is_orthogonal_whatever_the_momentum():
    rule = SharedBasis(space_momentum=0.9)
    start = draw_state(np.random.default_rng(5))
    for seed in range(3):
        rule.aggregate(tensors(start), updates_of(draw_round(seed)))
        for basis in rule.broadcast(tensors(start))["canonical_basis"].values():
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis), dtype=basis.dtype), atol=1e-12, rtol=0)


def test_an_opening_round_moves_nothing_and_gives_a_basis():
    rule = SharedBasis()
    assert rule.opening
    assert rule.broadcast({}) == {}
    start = draw_state(np.random.default_rng(6))
    states, counts, moments, grams = draw_round(7)
    still = ([start] * len(states), counts, [{n: v * 0 for n, v in m.items()} for m in moments], grams)
    assert_equal(rule.aggregate(tensors(start), updates_of(still)), start, tolerance=0)
    assert rule.broadcast(tensors(start)).keys() == {"canonical_basis", "canonical_stretch"}


def test_the_turn_of_the_space_is_reported_for_every_layer():
    aggregator, oracle = SharedBasis(opening=False, space_momentum=0.6), Oracle(space_momentum=0.6)
    start = draw_state(np.random.default_rng(0))
    for seed in range(3):
        states, counts, moments, grams = draw_round(seed)
        before = dict(oracle.space)
        after = oracle.round(start, states, counts, moments, grams)
        aggregator.aggregate(tensors(start), updates_of((states, counts, moments, grams)))
        for name in (f"{layer}.weight" for layer in LAYERS):
            told = {what: aggregator.last_diagnostics.get(f"{what}.{name}") for what in ("divergence", "beta")}
            if not before:
                assert told == {"divergence": None, "beta": None}
                continue
            pooled = sum(c * gram[name] / np.trace(gram[name]) for c, gram in zip(counts, grams, strict=True)).ravel()
            space = before[name].ravel()
            cosine = pooled @ space / np.sqrt((pooled @ pooled) * (space @ space))
            assert told["divergence"] == pytest.approx(1 - cosine)
            assert 0 < told["divergence"] < 1
            assert told["beta"] == 0.6
        start = after


def test_resumed_equals_uninterrupted_bit_for_bit():
    straight, interrupted = SharedBasis(space_momentum=0.3), SharedBasis(space_momentum=0.3)
    start = tensors(draw_state(np.random.default_rng(8)))
    for seed in range(4):
        updates = updates_of(draw_round(seed))
        expected, merged = straight.aggregate(start, updates), interrupted.aggregate(start, updates)
        assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())
        kept = load(save(interrupted.state_dict()))
        interrupted = SharedBasis(space_momentum=0.3)
        interrupted.load_state_dict(kept)
        start = expected


def test_tensors_without_a_matrix_take_the_weighted_mean():
    rule = SharedBasis(momentum=0.0, server_rate=1.0)
    drawn = draw_round(1, clients=2)
    start = draw_state(np.random.default_rng(1)) | {"scale": np.zeros(2)}
    for state, value in zip(drawn[0], (1.0, 4.0), strict=True):
        state["scale"] = np.full(2, value)
    drawn = (drawn[0], [3, 1], drawn[2], drawn[3])
    merged = rule.aggregate(tensors(start), updates_of(drawn))
    np.testing.assert_allclose(merged["scale"], [1.75, 1.75])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda extra: extra.pop("input_gram"),
            r"client 0: extra input_gram of linear_1\.weight is missing; the client",
        ),
        (lambda extra: extra["canonical_second_moment"]["linear_1.weight"].neg_(), "holds negative values"),
        (lambda extra: extra["input_gram"]["linear_2.weight"].fill_(float("nan")), "client 0: input_gram"),
        (
            lambda extra: extra["canonical_second_moment"].update({"linear_2.weight": torch.ones(2, 2)}),
            r"linear_2\.weight is \(2, 2\); needs \(4, 5\)",
        ),
        (
            lambda extra: extra["input_gram"].update({"linear_1.weight": torch.ones(3, 3)}),
            r"linear_1\.weight is \(3, 3\); needs \(4, 4\)",
        ),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(spoil, message):
    start = tensors(draw_state(np.random.default_rng(2)))
    good = updates_of(draw_round(3, clients=1))
    expected = SharedBasis().aggregate(start, good)
    (bad,) = updates_of(draw_round(4, clients=1))
    spoil(bad.extra)
    rule = SharedBasis()
    rule.begin(start)
    with pytest.raises(ValueError, match=message):
        rule.add(bad)
    rule.add(good[0])
    merged = rule.finish()
    assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exponent": 3}, "exponent = 3"),
        ({"space_momentum": 1.0}, "space_momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"server_rate": 0}, "server_rate"),
        ({"opening": "yes"}, "opening"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        create("shared-basis", **options)


def test_another_projectors_memory_is_refused():
    rule = SharedBasis()
    start = tensors(draw_state(np.random.default_rng(2)))
    rule.aggregate(start, updates_of(draw_round(3)))
    with pytest.raises(ValueError, match=r"linear_1\.weight does not fit the remembered basis of 4 inputs"):
        rule.begin({"linear_1.weight": torch.zeros(4, 7)})
    with pytest.raises(ValueError, match="not this method's"):
        SharedBasis().load_state_dict({"round": torch.tensor(1), "median": torch.tensor(1.0)})
