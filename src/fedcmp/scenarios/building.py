"""From embeddings to a scenario (Fed-CMP, appendix E): cluster, prune to the cap, cut into rounds.

clusters    one cluster by similarity = one client; of a cluster larger than the cap the samples furthest from its
            centroid are left out
iid         a random K-th each
dirichlet   clusters by similarity, each dealt out to the clients by shares drawn from a Dirichlet distribution (Hsu et
            al. 2019, with clusters in place of labels)
sizes       random shares of given sizes

Of what a client keeps, a share is held out for evaluation; the rest is put in an order that depends on the seed only
and cut into R parts. Draws are by splitmix64. Shapes: N pairs, K clients, R rounds, E embedding width.
"""

import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln  # type: ignore[import-untyped]

from fedcmp.data.batches import one_pass_order, round_parts
from fedcmp.errors import UserError
from fedcmp.model.locations import device_of
from fedcmp.scenarios.built import BuiltScenario, ClientShare
from fedcmp.scenarios.clustering.climbing import own_similarity
from fedcmp.scenarios.clustering.clusters import RESTARTS, Clusters, best_clusters
from fedcmp.scenarios.clustering.vectors import SIMILARITIES, FolderVectors, Similarity
from fedcmp.scenarios.embeddings.folder import PARTS, EmbeddingFolder, check_units
from fedcmp.version import __version__
from fedcmp.world.randomness import random_integers

Division = Literal["clusters", "iid", "dirichlet", "sizes"]
DIVISIONS: tuple[Division, ...] = get_args(Division)
Indices = NDArray[np.int64]
Say = Callable[[str], None]
_PIECE = 8192  # rows that are read together
_DEAL = 0x6465616C  # keeps the order in which a cluster is dealt out apart from the order of training
_GROUPS_A_CLIENT = 4  # clusters that a Dirichlet partition deals out, if it is not said


@dataclass(frozen=True)
class BuildOptions:
    """How a scenario is cut.

    Attributes:
        similarity: by which pairs are alike.
        division: from likeness to clients.
        clients: K.
        cap: the most pairs a client keeps, held-out ones included; None: no limit.
        rounds: R.
        seed: of all draws.
        held_out: share of each client's pairs that is kept for evaluation.
        restarts: starts of the clustering.
        alpha: dirichlet: small means unlike clients.
        groups: dirichlet: clusters that are dealt out; None: 4 K.
        sizes: sizes: pairs of each client.
        batch_size: what clients will train with; a cap must hold at least one batch.

    Raises:
        UserError: an option out of range, or options that contradict each other; names the flag.
    """

    similarity: Similarity = "image"
    division: Division = "clusters"
    clients: int = 5
    cap: int | None = None
    rounds: int = 10
    seed: int = 0
    held_out: float = 0.01
    restarts: int = RESTARTS
    alpha: float = 0.5
    groups: int | None = None
    sizes: tuple[int, ...] = ()
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise UserError(f"--similarity {self.similarity}: choose {', '.join(SIMILARITIES)}")
        if self.division not in DIVISIONS:
            raise UserError(f"--division {self.division}: choose {', '.join(DIVISIONS)}")
        for flag in ("clients", "rounds", "restarts", "batch_size"):
            if getattr(self, flag) < 1:
                raise UserError(f"--{flag.replace('_', '-')} {getattr(self, flag)}: must be at least 1")
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held-out {self.held_out:g}: must be a share from 0 to less than 1")
        if self.cap is not None and self.cap < self.batch_size:
            raise UserError(
                f"--cap {self.cap}: below one batch of {self.batch_size}: raise it, or lower --batch-size to what "
                "the clients will train with"
            )
        if self.division == "dirichlet" and not 0 < self.alpha < math.inf:
            raise UserError(f"--alpha {self.alpha:g}: must be above 0 and finite")
        if self.division != "dirichlet" and self.groups is not None:
            raise UserError(f"--groups {self.groups}: goes with --division dirichlet")
        if self.groups is not None and self.groups < 1:
            raise UserError(f"--groups {self.groups}: must be at least 1")
        if (self.division == "sizes") != bool(self.sizes):
            raise UserError("--sizes: goes with --division sizes, and that needs it: one number a client")
        if self.sizes and len(self.sizes) != self.clients:
            raise UserError(f"--sizes: {len(self.sizes)} numbers for --clients {self.clients}: give one each")
        if any(size < 1 for size in self.sizes):
            raise UserError(f"--sizes {','.join(map(str, self.sizes))}: each must be at least 1")


def build_scenario(
    embeddings: EmbeddingFolder,
    options: BuildOptions,
    *,
    threads: int | None = None,
    device: str = "auto",
    say: Say = lambda _line: None,
) -> BuiltScenario:
    """Cut a collection into clients and rounds. The same embeddings and options give the same scenario.

    Args:
        embeddings: of the collection.
        options: how.
        threads: pieces of vectors at a time; None: as many as this process may use.
        device: where similarities are computed: "auto" is the GPU if there is one.
        say: receives a line for people at every step.

    Raises:
        UserError: rows that are no unit vectors, an id that occurs twice, too few pairs for what is asked; names the
            id, client or flag.
    """
    device_of(device, key="--device")
    count = len(embeddings)
    if count < options.clients:
        raise UserError(f"--clients {options.clients}: the embeddings hold only {count} pairs; use fewer clients")
    say(f"checking {count:,} pairs")
    ids = embeddings.ids()
    _check_rows(embeddings, ids)
    embeddings.verify()
    found: Clusters | None = None
    if options.division in ("clusters", "dirichlet"):
        found = _clusters(embeddings, options, threads=threads, device=device, say=say)
    if options.division == "clusters":
        assert found is not None
        say("similarity of every pair to its centroid")
        vectors = FolderVectors(embeddings, options.similarity)
        fits = own_similarity(vectors, found.centroids, found.labels, threads=threads, device=device)
        ranked = nearest_first(found.labels, fits, options.clients)
    elif options.division == "dirichlet":
        assert found is not None
        ranked = dirichlet_shares(found.labels, options.clients, alpha=options.alpha, seed=options.seed)
    else:
        ranked = random_shares(count, options)
    kept = [mine[: options.cap] for mine in ranked]
    shares = tuple(_share(number, mine, len(ranked[number]), ids, options) for number, mine in enumerate(kept))
    facts = {} if found is None else {"objective": found.objective, "trace": found.trace, "starts": found.starts}
    return BuiltScenario(
        asdict(options) | {"sizes": list(options.sizes)},
        {
            "fingerprint": embeddings.fingerprint,
            "model": embeddings.model,
            "source": {key: embeddings.source.get(key) for key in ("name", "fingerprint")}
            | {"total": embeddings.shards[-1].stop if embeddings.shards else 0},
            "pairs": count,
            "width": embeddings.width,
        },
        shares,
        _means(embeddings, kept),
        facts,
        {"fedcmp": __version__} | {name: importlib.metadata.version(name) for name in ("numpy", "scipy")},
        {"embeddings": str(embeddings.folder.resolve()), "source": embeddings.source},
    )


def nearest_first(labels: Indices, fits: NDArray[np.floating[Any]], clusters: int) -> list[Indices]:
    """Per cluster, its pairs by falling similarity to its centroid, equal ones by number.

    Args:
        labels: (N,) cluster of each pair.
        fits: (N,) similarity of each pair to its own centroid.
        clusters: K.
    """
    members = [np.flatnonzero(labels == cluster) for cluster in range(clusters)]
    return [mine[np.argsort(-fits[mine], kind="stable")] for mine in members]


def dirichlet_shares(labels: Indices, clients: int, *, alpha: float, seed: int) -> list[Indices]:
    """Deal each cluster out by shares drawn from a Dirichlet distribution.

    Args:
        labels: (N,) cluster of each pair.
        clients: K.
        alpha: concentration: the same for all clients.
        seed: of the draws.

    Returns:
        Per client, its pairs in random order; every pair is dealt to one client.
    """
    held: list[list[Indices]] = [[] for _ in range(clients)]
    for cluster in np.unique(labels).tolist():
        mine = one_pass_order(np.flatnonzero(labels == cluster), seed + _DEAL)
        uniform = (random_integers(seed, cluster * clients + np.arange(clients), 1)[:, 0] + 0.5) / 2**31
        drawn = np.exp(_log_gamma_draws(uniform, alpha))
        ends = np.rint(np.cumsum(drawn / drawn.sum()) * len(mine)).astype(np.int64)
        for client, part in enumerate(np.split(mine, ends[:-1])):
            held[client].append(part)
    return [one_pass_order(np.concatenate(parts), seed) for parts in held]


def _log_gamma_draws(uniform: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Logarithms of Gamma(alpha) draws, by its inverse distribution function, less the largest of them."""
    direct = gammaincinv(alpha, uniform)
    near_zero = (
        np.log(uniform) + gammaln(alpha + 1)
    ) / alpha  # where the direct value underflows: P(x) ~ x^a / Gamma(a+1)
    logs = np.where(direct > 1e-290, np.log(np.maximum(direct, 1e-300)), near_zero)
    return np.asarray(logs - logs.max(), np.float64)


def random_shares(count: int, options: BuildOptions) -> list[Indices]:
    """IID shares, of equal or given sizes.

    Raises:
        UserError: the sizes add up to more than there is.
    """
    order = one_pass_order(count, options.seed)
    if not options.sizes:
        return list(np.array_split(order, options.clients))
    if sum(options.sizes) > count:
        raise UserError(f"--sizes: {sum(options.sizes):,} pairs in all, but the embeddings hold {count:,}")
    return np.split(order, np.cumsum(options.sizes))[: options.clients]


def _clusters(
    embeddings: EmbeddingFolder, options: BuildOptions, *, threads: int | None, device: str, say: Say
) -> Clusters:
    clusters = options.clients
    if options.division == "dirichlet":
        clusters = options.groups or _GROUPS_A_CLIENT * options.clients
        if clusters > len(embeddings):
            raise UserError(f"--groups {clusters}: the embeddings hold only {len(embeddings)} pairs; use fewer")
    return best_clusters(
        FolderVectors(embeddings, options.similarity),
        clusters,
        seed=options.seed,
        restarts=options.restarts,
        threads=threads,
        device=device,
        watch=lambda step, moved, value: say(f"clustering, step {step}: objective {value:.5f}, {moved:,} pairs moved"),
    )


def _share(number: int, mine: Indices, before: int, ids: list[str], options: BuildOptions) -> ClientShare:
    """One client's ids: held out, and round by round."""
    name = f"client-{number}"
    held_out = max(1, round(options.held_out * len(mine))) if options.held_out else 0
    order = one_pass_order(mine, options.seed + 1)
    held, train = order[:held_out], one_pass_order(order[held_out:], options.seed)
    if len(train) < options.rounds:
        raise UserError(
            f"{name}: holds {len(train)} pairs to train on, fewer than --rounds {options.rounds}: use fewer rounds or "
            "clients, another --seed, or more pairs"
        )
    parts = round_parts(train, options.rounds)
    return ClientShare(
        name,
        tuple(tuple(ids[i] for i in part.tolist()) for part in parts),
        tuple(ids[i] for i in np.sort(held).tolist()),
        before - len(mine),
    )


def _check_rows(embeddings: EmbeddingFolder, ids: list[str]) -> None:
    for part in PARTS:
        for start in range(0, len(embeddings), _PIECE):
            stop = min(start + _PIECE, len(embeddings))
            check_units(embeddings.rows(part, start, stop), ids[start:stop], f"{embeddings.folder}: {part}")


def _means(embeddings: EmbeddingFolder, kept: list[Indices]) -> dict[str, NDArray[np.float32]]:
    """Normalised means of what each client keeps."""
    owner = np.full(len(embeddings), len(kept))
    for number, mine in enumerate(kept):
        owner[mine] = number
    out: dict[str, NDArray[np.float32]] = {}
    for part in PARTS:
        sums = np.zeros((len(kept) + 1, embeddings.width))
        for start in range(0, len(embeddings), _PIECE):
            stop = min(start + _PIECE, len(embeddings))
            members = np.zeros((len(kept) + 1, stop - start), np.float32)
            members[owner[start:stop], np.arange(stop - start)] = 1
            sums += members @ embeddings.rows(part, start, stop).astype(np.float32)
        norms = np.linalg.norm(sums[:-1], axis=1, keepdims=True)
        out[part] = (sums[:-1] / np.maximum(norms, 1e-300)).astype(np.float32)
    return out
