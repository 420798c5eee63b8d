"""Speed and memory of clustering: ours against scikit-learn's and faiss's k-means, and from disk at scale.

    python benchmarks/clustering.py                 everything, about 20 minutes and 5 GB of disk on 2 cores
    python benchmarks/clustering.py --quick         a smoke run, seconds
    python benchmarks/clustering.py --peers         one piece; also --scale

Peers: 100,000 float32 vectors of width 1,024 in memory, K = 5, the same first centroids, until no label changes.
scikit-learn: KMeans(algorithm="lloyd", tol=0); it averages without normalising, so its labels are compared. faiss:
Kmeans(spherical=True), subsampling off; it knows no convergence, so it gets as many steps as ours took. The labels that
differ at the end are printed. Times are the best of some repeats, the routes taking turns, 2 threads each.
Scale: pairs of 1,024 + 1,024 dimensions in float16 shards on disk, `fedcmp scenario build --similarity joint`: wall
time of a process by number of pairs, and its high-water mark of memory; what 12 million pairs would take.

The vectors: a mixture of 5 groups in 32 dimensions, turned into 1,024 and normalised, so that groups touch.
Needs the extra `benchmarks` (faiss-cpu).
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import faiss
import numpy as np
from memory import high_water
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from fedcmp.scenarios.building import BuildOptions, build_scenario
from fedcmp.scenarios.clustering.climbing import climb
from fedcmp.scenarios.clustering.vectors import MemoryVectors
from fedcmp.scenarios.embeddings.folder import EmbeddingFolder, write_embedding_shard, write_index

CLUSTERS, WIDTH, SHARD, THREADS = 5, 1024, 10_000, 2
OVERLAPPING = 0.4  # distance of the groups where it should take several steps to tell them apart


def draw(count, seed, *, width=WIDTH, part=0, apart=0.9):
    """(count, width) float32 unit vectors of 5 touching groups; `part` turns the same groups into another space."""
    rng = np.random.default_rng([seed, part])
    shape = np.random.default_rng([7, part])
    means = np.random.default_rng(7).normal(size=(CLUSTERS, 32)) * apart
    turn = np.linalg.qr(shape.normal(size=(width, 32)))[0].T.astype(np.float32)
    offset = shape.normal(size=width).astype(np.float32) * (3.0 / math.sqrt(width))  # all pairs share a direction
    groups = np.random.default_rng(seed).integers(0, CLUSTERS, count)
    low = (means[groups] + rng.normal(size=(count, 32))).astype(np.float32)
    x = low @ turn + offset + rng.normal(size=(count, width)).astype(np.float32) * (1.0 / math.sqrt(width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def best_times(routes: Mapping[str, Callable[[], object]], repeats: int) -> tuple[dict[str, float], dict[str, object]]:
    """Each route's best time in seconds and its last result; they take turns, so that a busy minute hits all."""
    best, results = dict.fromkeys(routes, math.inf), {}
    for _ in range(repeats):
        for name, route in routes.items():
            started = time.perf_counter()
            results[name] = route()
            best[name] = min(best[name], time.perf_counter() - started)
    return best, results


def peers(count: int, width: int, repeats: int, say) -> None:
    x = draw(count, 1, width=width)
    first = np.ascontiguousarray(x[:: count // CLUSTERS][:CLUSTERS])
    vectors = MemoryVectors(x, dtype=np.float32)
    faiss.omp_set_num_threads(THREADS)
    steps = len(climb(vectors, first, threads=THREADS).trace)

    def ours():
        return climb(vectors, first, threads=THREADS).labels

    def scikit_learn():
        with threadpool_limits(THREADS):
            return KMeans(CLUSTERS, init=first, n_init=1, max_iter=1000, tol=0, algorithm="lloyd").fit(x).labels_

    def by_faiss():
        found = faiss.Kmeans(width, CLUSTERS, niter=steps, spherical=True, max_points_per_centroid=count, seed=0)
        found.train(x, init_centroids=first)
        return found.index.search(x, 1)[1][:, 0]

    times, labels = best_times({"ours": ours, "scikit-learn": scikit_learn, "faiss": by_faiss}, repeats)
    say(f"peers: {count:,} x {width}, K = {CLUSTERS}, {steps} steps to convergence, {THREADS} threads")
    for name, seconds in times.items():
        differ = int((labels[name] != labels["ours"]).sum())
        say(f"  {name:<14}{seconds:8.3f} s   {seconds / times['ours']:5.2f} x ours   {differ} labels differ from ours")


def write_collection(folder: Path, count: int, width: int) -> None:
    if (folder / "embeddings.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, first in enumerate(range(0, count, SHARD)):
        stop = min(first + SHARD, count)
        images, texts = (draw(stop - first, number, width=width, part=part, apart=OVERLAPPING) for part in (0, 1))
        names = [f"{i // 10_000:05d}/{i:09d}" for i in range(first, stop)]
        path = folder / f"shard-{number:05d}.safetensors"
        shards.append(write_embedding_shard(path, names, images, texts, key="k", first=first, stop=stop))
    model, source = {"name": "drawn", "fingerprint": "drawn"}, {"name": "drawn", "fingerprint": str(count)}
    write_index(folder, shards, width=width, model=model, source=source)


def build_once(folder: Path) -> None:
    """In a process of its own: build, and print seconds, steps over all pairs and the high-water mark of memory."""
    started = time.perf_counter()
    options = BuildOptions("joint", clients=CLUSTERS, cap=150_000, seed=0)
    built = build_scenario(EmbeddingFolder(folder), options, threads=THREADS)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_gib": high_water() / 2**10, "steps": len(built.facts["trace"])}))


def scale(sizes: list[int], width: int, where: Path, say) -> None:
    say(f"scale: {width} + {width} dimensions, float16 shards on disk, joint similarity, K = {CLUSTERS}, 4 starts")
    found = {}
    for count in sizes:
        folder = where / f"{count}-{width}"
        write_collection(folder, count, width)
        command = [sys.executable, __file__, "--build", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[count] = one = json.loads(done.stdout)
        say(
            f"  {count:>10,} pairs {one['seconds']:8.1f} s   {one['steps']} steps over all pairs   "
            f"peak {one['peak_gib']:.2f} GiB"
        )
    rate, fixed = np.polyfit(sizes, [found[count]["seconds"] for count in sizes], 1)
    growth, base = np.polyfit(sizes, [found[count]["peak_gib"] for count in sizes], 1)
    pairs, disk = 12_000_000, 12_000_000 * 4 * width / 1e9
    say(f"  the line through these: {fixed:.1f} s (starts, on a sample) and {1e6 * rate:.1f} microseconds a pair")
    say(
        f"  on paper, {pairs:,} pairs of that width: {(fixed + pairs * rate) / 60:.0f} minutes where {disk:.0f} GB of "
        f"embeddings stay in memory as these did, else so many passes over them as there are steps, and four more; "
        f"{base + growth * pairs:.1f} GiB of the process's own memory"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("quick", "peers", "scale"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--folder", type=Path, help="where embeddings are kept; default: a folder that is removed")
    parser.add_argument("--out", type=Path, help="also write what is printed there")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build_once(options.build)
        return
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    everything = not (options.peers or options.scale)
    if options.peers or everything:
        peers(*((4_000, 64, 1) if options.quick else (100_000, WIDTH, 3)), say)
    if options.scale or everything:
        with tempfile.TemporaryDirectory() as name:
            where = options.folder or Path(name)
            scale(*(([2_000, 6_000], 64) if options.quick else ([100_000, 300_000, 1_000_000], WIDTH)), where, say)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
