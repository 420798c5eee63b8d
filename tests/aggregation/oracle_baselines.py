"""The baselines written again from their formulas, in NumPy, without streaming, blocks or Gram sums."""

import hashlib

import numpy as np


def updates_of(start, states):
    return [{name: state[name] - start[name] for name in start} for state in states]


def weighted(deltas, weights):
    """sum_k w_k Delta_k / sum_j w_j, tensor by tensor."""
    return {name: np.tensordot(weights, [d[name] for d in deltas], 1) / np.sum(weights) for name in deltas[0]}


class StepOracle:
    """A server optimiser over rounds: `name` says which, options as in the package."""

    def __init__(self, name, **options):
        self.name, self.o, self.memory = name, options, {}

    def round(self, start, states, counts, changes=None):
        mean = weighted(updates_of(start, states), counts)
        merged = {}
        for tensor, d in mean.items():
            kept = self.memory.setdefault(tensor, {})
            merged[tensor] = start[tensor] + getattr(self, self.name)(d, kept)
            if changes is not None:
                total = self.o.get("total_clients") or len(states)
                kept["c"] = kept.get("c", 0) + sum(change[tensor] for change in changes) / total
        return merged

    def fedavgm(self, d, kept):
        kept["v"] = self.o["momentum"] * kept.get("v", 0) + d
        return self.o["learning_rate"] * kept["v"]

    def diloco(self, d, kept):
        beta = self.o["momentum"]
        kept["v"] = beta * kept.get("v", 0) + d
        return self.o["learning_rate"] * (d + beta * kept["v"])

    def fedadam(self, d, kept, yogi=False):
        b1, b2, tau = self.o["beta_1"], self.o["beta_2"], self.o["tau"]
        v = kept.get("v", np.full_like(d, tau**2))
        kept["m"] = b1 * kept.get("m", 0) + (1 - b1) * d
        kept["v"] = v - (1 - b2) * d**2 * np.sign(v - d**2) if yogi else b2 * v + (1 - b2) * d**2
        return self.o["learning_rate"] * kept["m"] / (np.sqrt(kept["v"]) + tau)

    def fedyogi(self, d, kept):
        return self.fedadam(d, kept, yogi=True)

    def fedswa(self, d, kept):
        return self.o["alpha"] * d

    def scaffold(self, d, kept):
        return self.o["learning_rate"] * d


def task_arithmetic(start, states, scale):
    deltas = updates_of(start, states)
    return {name: start[name] + scale * sum(d[name] for d in deltas) for name in start}


def metagpt(start, states):
    deltas = updates_of(start, states)
    squares = [sum((d[name] ** 2).sum() for name in start) for d in deltas]
    mean = weighted(deltas, squares)
    return {name: start[name] + mean[name] for name in start}


def vote(vectors_KP, density):
    """TIES entry by entry, on lists of numbers."""
    kept = max(1, int(density * len(vectors_KP[0])))
    trimmed = []
    for vector in vectors_KP:
        least = sorted(map(abs, vector))[-kept]
        trimmed.append([value if abs(value) >= least else 0.0 for value in vector])
    merged = []
    for column in zip(*trimmed, strict=True):
        balance = sum(column)
        agreeing = [value for value in column if value * balance > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return np.array(merged)


def flat(state):
    return np.concatenate([array.ravel() for array in state.values()])


def unflat(vector, like):
    parts = np.split(vector, np.cumsum([array.size for array in like.values()])[:-1])
    return {name: part.reshape(array.shape) for part, (name, array) in zip(parts, like.items(), strict=True)}


def ties(start, states, density, scale):
    merged = unflat(vote([flat(d) for d in updates_of(start, states)], density), start)
    return {name: start[name] + scale * merged[name] for name in start}


def keeps(state, name, drop, seed, number):
    """Which entries of a client's tensor DARE keeps: bits of a stream seeded by SHA-256 of what the docs list."""
    key = hashlib.sha256(f"{seed} {number}".encode())
    for tensor in sorted(state):
        key.update(tensor.encode() + state[tensor].astype(np.float32).tobytes())
    key.update(f" {name}".encode())
    size = state[name].size
    words = np.random.SFC64(int.from_bytes(key.digest(), "little")).random_raw(size // 2 + 1)
    halves = np.column_stack([words & 0xFFFFFFFF, words >> 32]).ravel()[:size]
    return (halves / 2**32 >= drop).reshape(state[name].shape)


def thinned(start, states, drop, seed, number):
    return [
        {name: d[name] * keeps(state, name, drop, seed, number) / (1 - drop) for name in start}
        for d, state in zip(updates_of(start, states), states, strict=True)
    ]


def knots_ties(start, states, counts, density, scale):
    """By the SVD of the joined updates; linear layers are X.weight with X.bias."""
    deltas = updates_of(start, states)
    merged = {name: start[name] + mean for name, mean in weighted(deltas, counts).items()}
    bases, coefficients = {}, [{} for _ in states]
    for name in start:
        if name.endswith("weight"):
            bias = name.replace("weight", "bias")
            joined = np.hstack([np.column_stack([d[name], d[bias]]) for d in deltas])
            u, s, v = np.linalg.svd(joined, full_matrices=False)
            rank = (s**2 > 2.0**-52 * len(u) * s[0] ** 2).sum()
            bases[name] = u[:, :rank]
            for k, block in enumerate(np.split(s[:rank, None] * v[:rank], len(states), axis=1)):
                coefficients[k][name] = block
    voted = unflat(vote([flat(c) for c in coefficients], density), coefficients[0])
    for name, basis in bases.items():
        step = scale * basis @ voted[name]
        merged[name] = start[name] + step[:, :-1]
        merged[name.replace("weight", "bias")] = start[name.replace("weight", "bias")] + step[:, -1]
    return merged


def one_round(seed, clients, sizes=((3, 2), (2, 4))):
    """Draw a small round of float64: start, states, counts. Layers X.weight (O, I) and X.bias, and a lone scale."""
    rng = np.random.default_rng(seed)
    shapes = {}
    for layer, (rows, columns) in enumerate(sizes):
        shapes |= {f"linear_{layer}.weight": (rows, columns), f"linear_{layer}.bias": (rows,)}
    shapes["norm.scale"] = (3,)
    start = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    states = [{name: a + 0.1 * rng.standard_normal(a.shape) for name, a in start.items()} for _ in range(clients)]
    return start, states, [int(count) for count in rng.integers(1, 50, clients)]
