"""The merging rules written again from their formulas, in NumPy: by the SVD, client by client, no sums."""

import numpy as np

from .oracle_baselines import updates_of, weighted

CUT = 2.0**-52  # singular values up to this share of the largest, times the longer side, are rounding


def layers(start):
    """Names of the linear layers, X.weight with X.bias."""
    return [name.removesuffix(".weight") for name in start if name.endswith(".weight")]


def join(tensors, layer):
    return np.column_stack([tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]])


def moved(start, states, counts, step_of):
    """Every layer moved by step_of(its updates), the rest by FedAvg's mean."""
    deltas = updates_of(start, states)
    merged = {name: start[name] + mean for name, mean in weighted(deltas, counts).items()}
    for layer in layers(start):
        step = step_of(layer, [join(delta, layer) for delta in deltas])
        merged[f"{layer}.weight"] = start[f"{layer}.weight"] + step[:, :-1]
        merged[f"{layer}.bias"] = start[f"{layer}.bias"] + step[:, -1]
    return merged


def svd(matrix):
    """Thin SVD over the directions that are not rounding."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = (s > CUT * max(matrix.shape) * s[0]).sum()
    return u[:, :rank], s[:rank], vt[:rank]


def polar(matrix):
    u, _, vt = svd(matrix)
    return u @ vt


def regmean(start, states, counts, grams, off_diagonal, damping):
    """From the weights themselves, not from their changes."""

    def step_of(layer, deltas):
        top, bottom = 0.0, 0.0
        origin = join(start, layer)
        for count, delta, gram in zip(counts, deltas, grams, strict=True):
            c = gram[f"{layer}.weight"]
            scaled = np.where(np.eye(len(c)) == 1, c, off_diagonal * c) + damping * np.trace(c) / len(c) * np.eye(
                len(c)
            )
            top = top + count * (origin + delta) @ scaled
            bottom = bottom + count * scaled
        return top @ np.linalg.inv(bottom) - origin

    return moved(start, states, counts, step_of)


def iso_c(start, states, counts, alpha):
    def step_of(_, deltas):
        total = sum(deltas)
        return alpha * np.linalg.svd(total, compute_uv=False).mean() * polar(total)

    return moved(start, states, counts, step_of)


def wudi(start, states, counts, cutoff):
    def step_of(_, deltas):
        grams = [delta.T @ delta / (delta**2).sum() for delta in deltas]
        top = sum(delta @ gram for delta, gram in zip(deltas, grams, strict=True))
        return top @ np.linalg.pinv(sum(grams), rcond=cutoff, hermitian=True)

    return moved(start, states, counts, step_of)


def wudi_loss(step, deltas):
    return sum((((step - delta) @ delta.T) ** 2).sum() / (delta**2).sum() for delta in deltas)


def wudi_adam(start, states, counts, steps, rate):
    """Adam on the loss; its gradient client by client."""

    def step_of(_, deltas):
        x, m, v = sum(deltas), 0.0, 0.0
        for number in range(1, steps + 1):
            gradient = sum(2 * (x - delta) @ delta.T @ delta / (delta**2).sum() for delta in deltas)
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            x = x - rate * (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.999**number)) + 1e-8)
        return x

    return moved(start, states, counts, step_of)


def model_stock(start, states):
    """Pair by pair."""
    merged = {}
    k = len(states)
    for name in start:
        deltas = [state[name] - start[name] for state in states]
        cosines = [
            (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
            for i, one in enumerate(deltas)
            for other in deltas[:i]
        ]
        cosine = max(0.0, np.mean(cosines)) if cosines else 1.0
        t = k * cosine / (1 + (k - 1) * cosine)
        merged[name] = t * np.mean([state[name] for state in states], axis=0) + (1 - t) * start[name]
    return merged


def tsv(start, states, counts, scale):
    def step_of(_, deltas):
        each = max(1, min(deltas[0].shape) // len(deltas))
        parts = [svd(delta) for delta in deltas]
        u = polar(np.hstack([part[0][:, :each] for part in parts]))
        s = np.concatenate([part[1][:each] for part in parts])
        vt = polar(np.vstack([part[2][:each] for part in parts]))
        return scale * u @ np.diag(s) @ vt

    return moved(start, states, counts, step_of)


def svc(start, states, counts, alpha):
    """Direction by direction."""

    def step_of(_, deltas):
        merged = np.tensordot(counts, deltas, 1) / sum(counts)
        u, s, vt = svd(merged)
        for r in range(len(s)):
            shares = []
            for delta in deltas:
                response = u[:, r] @ delta
                shares.append(max(alpha, (u[:, r] @ merged) @ response / (response @ response)))
            s[r] *= len(deltas) / sum(shares)
        return u @ np.diag(s) @ vt

    return moved(start, states, counts, step_of)


def draw_grams(seed, start, clients, rows=12):
    """Each client's mean of x x^T for each layer, x with a one behind it."""
    rng = np.random.default_rng(seed)
    grams = []
    for _ in range(clients):
        grams.append({})
        for layer in layers(start):
            inputs = start[f"{layer}.weight"].shape[1]
            fed = np.column_stack([rng.standard_normal((rows, inputs)), np.ones(rows)])
            grams[-1][f"{layer}.weight"] = fed.T @ fed / rows
    return grams
