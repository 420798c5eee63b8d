"""Fed-CMP written again from its formulas, in NumPy, by the K-wide SVD that the package avoids."""

import numpy as np
import torch

from fedcmp.aggregation import ClientUpdate

EPS = 2.0**-52


class Oracle:
    """One FedCMP over rounds. `margin` is the distance of the last round from a decision that rounding could tip."""

    def __init__(self, **options):
        self.o = {
            "gamma": 1.0, "magnitude_cap": np.inf, "reliability": "both", "space": "weights", "rank": "full",
            "matching": "sign", "tail": "drop", "bias": "column", "momentum": True, "beta_min": 0.5, "beta_max": 0.9,
            "kappa": 1.0, "basis": "canonical", "parameter_exponent": None, "parameter_damping": 0.01,
            "coefficients": "round", "scale_momentum": True,
        } | options  # fmt: skip
        self.median = None
        self.memory = {}
        self.margin = np.inf

    def round(self, start, states, counts, errors, moments):
        self.margin = np.inf
        a = self.weights(start, states, counts, errors)
        mean = {name: self.mean(name, start, states, a, moments) for name in start}
        result = dict(mean)
        for name in start:
            if not name.endswith("weight") or start[name].ndim != 2:
                continue
            bias = name.replace("weight", "bias")
            parts = [name, bias] if self.o["bias"] == "column" and bias in start else [name]
            join = lambda state, parts=parts: np.column_stack([state[part] for part in parts])  # noqa: E731
            fused = self.fuse(name, join(start), [join(state) for state in states], join(mean))
            result[name] = fused[:, : start[name].shape[1]]
            if len(parts) == 2:
                result[bias] = fused[:, -1]
        return result

    def weights(self, start, states, counts, errors):
        m = np.array([sum(((s[n] - start[n]) ** 2).sum() for n in start) for s in states])
        cap = np.inf if self.median is None else self.o["magnitude_cap"] * self.median
        self.median = np.median(m)
        quality = np.exp(-self.o["gamma"] * np.array(errors))
        capped = np.minimum(m, cap)
        s = {"both": capped * quality, "magnitude": capped, "quality": quality, "none": np.array(counts, float)}
        s = s[self.o["reliability"]]
        if s.sum() == 0:
            s = np.array(counts, float)
        return s / s.sum()

    def mean(self, name, start, states, a, moments):
        p = self.o["parameter_exponent"]
        if p is None:
            return sum(a_k * state[name] for a_k, state in zip(a, states, strict=True))
        damping = (
            self.o["parameter_damping"] * sum(a_k * v[name] ** p for a_k, v in zip(a, moments, strict=True)).mean()
        )
        top = np.zeros_like(start[name])
        bottom = np.zeros_like(start[name])
        for a_k, state, v in zip(a, states, moments, strict=True):
            f = v[name] ** p + damping
            top += a_k * f * (state[name] - start[name])
            bottom += a_k * f
        return start[name] + top / bottom

    def fuse(self, name, start, matrices, mean):
        updates = self.o["space"] == "updates"
        if updates:
            matrices, mean = [matrix - start for matrix in matrices], mean - start
        fused = self.raw(name, mean) if self.o["basis"] == "none" else self.canonical(name, matrices, mean)
        return start + fused if updates else fused

    def beta(self, d):
        o = self.o
        return o["beta_min"] + (o["beta_max"] - o["beta_min"]) * (1 - np.exp(-o["kappa"] * d))

    def raw(self, name, mean):
        if self.o["momentum"] and name in self.memory:
            old = self.memory[name]
            cosine = (old * mean).sum() / np.sqrt((old**2).sum() * (mean**2).sum())
            b = self.beta(1 - cosine)
            mean = b * old + (1 - b) * mean
        self.memory[name] = mean
        return mean

    def canonical(self, name, matrices, mean):
        o = self.o
        u, s, _ = np.linalg.svd(np.hstack(matrices), full_matrices=False)
        s = s / np.sqrt(len(matrices))
        r = int((s**2 > EPS * len(u) * s[0] ** 2).sum())
        share = np.cumsum(s[:r] ** 2) / (s[:r] ** 2).sum()
        if isinstance(o["rank"], int):
            r = min(r, o["rank"])
        elif o["rank"] != "full":
            self.margin = min(self.margin, np.abs(share - o["rank"]).min())
            r = int(np.argmax(share >= o["rank"])) + 1
        u, s = u[:, :r], s[:r]
        full = o["rank"] == "full"
        rest = mean - u @ (u.T @ mean) if full or o["tail"] == "average" else 0 * mean
        u_t, s_t = u, s
        if o["momentum"] and name in self.memory:
            u_old, s_old = self.memory[name]
            c = min(r, u_old.shape[1])
            u, u_t, s_t = getattr(self, o["matching"])(u, s, u_old[:, :c], s_old[:c], c)
        if not o["scale_momentum"]:
            s_t = s
        if o["momentum"]:
            self.memory[name] = (u_t, s_t)
        if o["momentum"] and o["coefficients"] == "mixed":
            again = u_t @ (u_t.T @ mean)
            return mean if full else again + (mean - again if o["tail"] == "average" else 0)
        v = (u.T @ mean) / s[:, None]  # sum_k a_k V_k^T
        return u_t @ np.diag(s_t if o["matching"] == "sign" else s) @ v + rest

    def sign(self, u, s, u_old, s_old, c):
        u = u.copy()
        for i in range(c):
            cosine = u[:, i] @ u_old[:, i]
            self.margin = min(self.margin, abs(cosine))
            if cosine < 0:
                u[:, i] *= -1
        d = np.mean([1 - u[:, i] @ u_old[:, i] for i in range(c)])
        b = self.beta(d)
        s_t = s.copy()
        s_t[:c] = b * s_old + (1 - b) * s[:c]
        return u, self.mix(u, u_old, b), s_t

    def procrustes(self, u, s, u_old, s_old, c):
        p, cosines, q = np.linalg.svd(u[:, :c].T @ u_old)
        self.margin = min(self.margin, cosines.min())
        u = np.hstack([u[:, :c] @ (p @ q), u[:, c:]])
        b = self.beta(1 - cosines.mean())
        return u, self.mix(u, u_old, b), s

    def mix(self, u, u_old, b):
        m = u.copy()
        m[:, : u_old.shape[1]] = b * u_old + (1 - b) * u[:, : u_old.shape[1]]
        p, singular, q = np.linalg.svd(m, full_matrices=False)
        self.margin = min(self.margin, singular.min())
        return p @ q


def draw_round(rng, start, clients, *, space="weights", rank=None, moved=None):
    """Draw clients whose joined matrices have well separated singular values.

    Args:
        rng: NumPy generator.
        start: name -> array, the global state; linear layers with X.weight and X.bias.
        clients: how many.
        space: which matrices are to be well separated, "weights" or "updates".
        rank: rank of the joined matrices, at most.
        moved: name -> left basis of the round before, to be turned a little; drawn anew without.

    Returns:
        States, and the left bases.
    """
    states = [{} for _ in range(clients)]
    bases = {}
    for name, weight in start.items():
        if not name.endswith("weight") or weight.ndim != 2:
            continue
        rows, columns = weight.shape[0], weight.shape[1] + 1
        r = min(rows, clients * columns, rank or rows)
        u = np.linalg.qr(rng.standard_normal((rows, rows)))[0]
        if moved is not None:
            u = np.linalg.qr(moved[name] @ (np.eye(rows) + 0.1 * rng.standard_normal((rows, rows))))[0]
        bases[name] = u
        v = np.linalg.qr(rng.standard_normal((clients * columns, r)))[0]
        joined = (u[:, :r] * np.linspace(1, 0.1, r)) @ v.T
        for k, state in enumerate(states):
            block = joined[:, k * columns : (k + 1) * columns]
            origin = np.column_stack([weight, start[name.replace("weight", "bias")]]) if space == "updates" else 0
            state[name] = (block + origin)[:, :-1].copy()
            state[name.replace("weight", "bias")] = (block + origin)[:, -1].copy()
    for state in states:
        for name, tensor in start.items():
            if name not in state:
                state[name] = tensor + 0.1 * rng.standard_normal(tensor.shape)
    return [{name: state[name] for name in start} for state in states], bases


def draw_start(rng, sizes, dtype=np.float64):
    """Draw a projector with layers of the given sizes (outputs, inputs) and a lone scale vector."""
    start = {}
    for i, (rows, columns) in enumerate(sizes):
        start[f"linear_{i}.weight"] = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        start[f"linear_{i}.bias"] = 0.1 * rng.standard_normal(rows)
    start["norm.scale"] = 1 + 0.1 * rng.standard_normal(sizes[-1][0])
    return {name: array.astype(dtype) for name, array in start.items()}


def as_tensors(arrays, dtype=torch.float64):
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(dtype) for name, array in arrays.items()}


def as_updates(states, counts=None, errors=None, moments=None, dtype=torch.float64):
    """Wrap arrays as the clients' updates."""
    counts = counts or [1] * len(states)
    errors = [0.0] * len(states) if errors is None else errors
    return [
        ClientUpdate(
            as_tensors(state, dtype),
            count,
            float(error),
            second_moment=None if moments is None else as_tensors(moments[k]),
        )
        for k, (state, count, error) in enumerate(zip(states, counts, errors, strict=True))
    ]


def relative_error(found, expected):
    """Largest distance over tensors, relative to the expected tensor's norm."""
    return max(
        np.linalg.norm(found[name].double().numpy() - expected[name]) / np.linalg.norm(expected[name])
        for name in expected
    )


SMALL = [(6, 4), (5, 6)]


def one_round(seed=0, clients=3, space="weights", sizes=SMALL, moved=None):
    """Draw one small round: start, states, counts, errors, moments, left bases."""
    rng = np.random.default_rng(seed)
    start = draw_start(rng, sizes)
    states, bases = draw_round(rng, start, clients, space=space, moved=moved)
    moments = [{name: rng.random(array.shape) for name, array in start.items()} for _ in states]
    return start, states, [3, 5, 2, 7, 1][:clients], rng.random(clients), moments, bases
