"""Speed and memory of the server: Fed-CMP by running sums against the K-wide SVD, merging rules against peft's.

    python benchmarks/aggregation.py                    everything, some minutes on 2 cores
    python benchmarks/aggregation.py --quick            a smoke run, seconds
    python benchmarks/aggregation.py --decomposition    one piece; also --step, --memory, --merging, --paper

Decomposition: the basis and scales of [W_1 | ... | W_K], W_k square float32. By sums: K Gram products and one
symmetric eigenproblem. By SVD: torch's or SciPy's single precision SVD of the joined matrix, whichever is faster.
Step: a second round of fedcmp (so with momentum) on one matrix, against the same formulas by SVD.
Memory: the high-water mark of a process for each K that draws its clients one at a time from seeds.
Merging: TIES, DARE and task arithmetic against peft.utils.merge_utils, on LLaVA-1.5 7B's projector, float32, K = 5.
peft is given one flat vector of changes for each client and returns the merged one; ours is given views of the same
memory as projectors (the global one is zero, so they are the changes), checks them and returns the next projector.
peft's DARE-TIES does not trim, so ours has density 1 here. Memory: the high-water mark of a process that merges once,
less that of one that only draws the clients.
Paper: both rounds of fedcmp on LLaVA-1.5 7B's projector, 1024 -> 4096 -> 4096, K = 5.
Times are the best of some repeats, the routes taking turns, in one process with 2 threads.
"""

import argparse
import importlib.util
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

import scipy.linalg
import threadpoolctl
import torch
from memory import high_water
from torch import Tensor

from fedcmp.aggregation import ClientUpdate, FedCMP, create
from fedcmp.aggregation.spectrum import add_gram, leading_basis

PRECISIONS = ("float64", "float32")


def draw_matrix(rows: int, columns: int, seed: int) -> Tensor:
    """Return a float32 matrix (rows, columns) with entries of variance 1 / columns."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) / math.sqrt(columns)


def best_times(routes: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each route's best time in seconds; they take turns, so that a busy minute hits all of them."""
    best = dict.fromkeys(routes, math.inf)
    for _ in range(repeats):
        for name, route in routes.items():
            started = time.perf_counter()
            route()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def decompose_by_sums(matrices: list[Tensor], products: str) -> None:
    """The basis and scales by Gram sums."""
    dtype = torch.float64 if products == "float64" else torch.float32
    gram = torch.zeros(len(matrices[0]), len(matrices[0]), dtype=torch.float64)
    for matrix in matrices:
        add_gram(gram, matrix.double(), products=dtype)
    leading_basis(gram, rank="full", clients=len(matrices), precision=torch.finfo(dtype).eps)


Decomposed = tuple[Tensor, Tensor, Tensor]
Svd = Callable[[Tensor], Decomposed]


def svd_by_scipy(joined: Tensor) -> Decomposed:
    left, scales, right = scipy.linalg.svd(joined.numpy(), full_matrices=False, check_finite=False)
    return torch.from_numpy(left), torch.from_numpy(scales), torch.from_numpy(right)


def svd_by_torch(joined: Tensor) -> Decomposed:
    return torch.linalg.svd(joined, full_matrices=False)


SVDS: dict[str, Svd] = {"svd, torch": svd_by_torch, "svd, scipy": svd_by_scipy}


def step_by_svd(matrices: list[Tensor], previous: tuple[Tensor, Tensor], svd: Svd) -> Tensor:
    """A round of fedcmp on one matrix, from the formulas, the clients weighing the same."""
    directions, scales, right = svd(torch.cat(matrices, dim=1))
    blocks = right.split(matrices[0].shape[1], dim=1)
    coefficients = torch.stack(blocks).mean(0)
    old_directions, old_scales = previous
    cosines = (directions * old_directions).sum(0)
    signs = torch.where(cosines < 0, -1.0, 1.0)
    beta = 0.5 + 0.4 * (1 - math.exp(-float((1 - cosines.abs()).mean())))
    left, _, right = svd(beta * old_directions + (1 - beta) * directions * signs)
    mixed_scales = beta * old_scales + (1 - beta) * scales
    return (left @ right) @ ((mixed_scales * signs)[:, None] * coefficients)


def report(title: str, clients: int, times: dict[str, float]) -> None:
    """Print a row for each precision: our time, the faster SVD's, and the ratio."""
    reference, which = min((seconds, name) for name, seconds in times.items() if name in SVDS)
    for precision in PRECISIONS:
        ours = times[precision]
        print(
            f"{title:<14} K = {clients:<3} {precision} products {ours:8.3f} s   {which} {reference:8.3f} s"
            f"   {reference / ours:5.1f} times faster",
            flush=True,
        )


def run_decomposition(size: int, cohorts: list[int], repeats: int) -> None:
    for clients in cohorts:
        matrices = [draw_matrix(size, size, seed) for seed in range(clients)]
        routes: dict[str, Callable[[], object]] = {
            name: partial(joined_svd, matrices, svd) for name, svd in SVDS.items()
        }
        routes |= {precision: partial(decompose_by_sums, matrices, precision) for precision in PRECISIONS}
        report("decomposition", clients, best_times(routes, repeats))


def joined_svd(matrices: list[Tensor], svd: Svd) -> Decomposed:
    """The K-wide route, joining included."""
    return svd(torch.cat(matrices, dim=1))


def run_step(size: int, cohorts: list[int], repeats: int) -> None:
    for clients in cohorts:
        start = {"weight": draw_matrix(size, size, 10_000)}
        matrices = [start["weight"] + 0.1 * draw_matrix(size, size, seed) for seed in range(clients)]
        updates = [ClientUpdate({"weight": matrix}, 100, 0.5) for matrix in matrices]
        first = FedCMP()
        first.aggregate(start, updates[: clients // 2])
        memory = first.state_dict()
        previous = (memory["basis.weight"].float(), memory["scales.weight"].float() * math.sqrt(clients))
        routes: dict[str, Callable[[], object]] = {
            name: partial(step_by_svd, matrices, previous, svd) for name, svd in SVDS.items()
        }
        routes |= {precision: partial(step_by_sums, start, updates, memory, precision) for precision in PRECISIONS}
        report("whole step", clients, best_times(routes, repeats))


def step_by_sums(
    start: dict[str, Tensor], updates: list[ClientUpdate], memory: dict[str, Tensor], products: str
) -> Tensor:
    """A round of fedcmp that takes up a memory."""
    aggregator = FedCMP(gram_dtype=products)
    aggregator.load_state_dict(memory)
    return aggregator.aggregate(start, updates)["weight"]


def draw_updates(start: dict[str, Tensor], clients: int) -> Iterator[ClientUpdate]:
    """Draw the clients one at a time; only the one in use is in memory."""
    for client in range(clients):
        generator = torch.Generator().manual_seed(client)
        moved = {name: t + 0.01 * torch.randn(t.shape, generator=generator) for name, t in start.items()}
        yield ClientUpdate(moved, 100 + client, 0.5)


def draw_projector(visual: int, text: int) -> dict[str, Tensor]:
    """Return LLaVA's two-layer projector, float32."""
    return {
        "linear_1.weight": draw_matrix(text, visual, 1),
        "linear_1.bias": torch.zeros(text),
        "linear_2.weight": draw_matrix(text, text, 2),
        "linear_2.bias": torch.zeros(text),
    }


def memory_child(size: int, clients: int) -> None:
    """Two rounds in this process; prints the high-water mark before and after."""
    start = draw_projector(size, size)
    before = high_water()
    aggregator = FedCMP()
    for _ in range(2):
        start = aggregator.aggregate(start, draw_updates(start, clients))
    print(before, high_water())


def run_memory(size: int, cohorts: list[int]) -> None:
    peaks = []
    for clients in cohorts:
        command = [sys.executable, __file__, "--memory-child", str(size), str(clients)]
        before, after = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        peaks.append(after)
        print(
            f"memory         K = {clients:<3} peak {after:.1f} MiB; {before:.1f} MiB before the first round", flush=True
        )
    print(f"memory         K = {cohorts[-1]} over K = {cohorts[0]}: {peaks[-1] / peaks[0]:.3f}", flush=True)


def peft_merging() -> ModuleType:
    """Return peft.utils.merge_utils by itself: the whole of peft would weigh on the memory that is measured."""
    package = importlib.util.find_spec("peft")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "utils" / "merge_utils.py"
    spec = importlib.util.spec_from_file_location("merge_utils", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Merging:
    """The same K clients as flat vectors for peft and as projectors for us."""

    RULES = ("ties", "dare", "dare-ties", "task-arithmetic")

    def __init__(self, visual: int, text: int, clients: int) -> None:
        shapes = {name: tensor.shape for name, tensor in draw_projector(visual, text).items()}
        self.start = {name: torch.zeros(shape) for name, shape in shapes.items()}
        sizes = [shape.numel() for shape in shapes.values()]
        self.flat, self.updates = [], []
        for client in range(clients):
            vector = torch.empty(sum(sizes)).normal_(0, 0.01, generator=torch.Generator().manual_seed(client))
            parts = zip(shapes.items(), vector.split(sizes), strict=True)
            self.flat.append(vector)
            self.updates.append(ClientUpdate({name: part.view(shape) for (name, shape), part in parts}, 100 + client))
        self.peft = peft_merging()

    def ours(self, rule: str) -> dict[str, Tensor]:
        options = {"density": 1.0} if rule == "dare-ties" else {}
        return create(rule, **options).aggregate(self.start, self.updates)

    def theirs(self, rule: str) -> Tensor:
        ones = torch.ones(len(self.flat))
        counts = torch.tensor([float(update.num_examples) for update in self.updates])
        if rule == "ties":
            return self.peft.ties(self.flat, ones, 0.2)
        if rule == "dare":
            return self.peft.dare_linear(self.flat, counts / counts.sum(), 0.5)
        if rule == "dare-ties":
            return self.peft.dare_ties(self.flat, ones, 0.5)
        return self.peft.task_arithmetic(self.flat, 0.3 * ones)

    def require_agreement(self, rule: str) -> None:
        """Stop if the two sides do not compute the same.

        DARE draws at random, so there only the lengths can agree. TIES may differ in a few entries: those as large as
        the smallest kept one, and those that cancel up to rounding.
        """
        ours = torch.cat([tensor.flatten() for tensor in self.ours(rule).values()])
        theirs = self.theirs(rule)
        if "dare" in rule:
            assert abs(float(ours.norm() / theirs.norm()) - 1) < 10 / math.sqrt(len(theirs)), rule
        else:
            differing = (ours - theirs).abs() > 1e-4 * theirs.abs() + 1e-8
            assert float(differing.double().mean()) < 1e-5, rule


def merging_child(rule: str, side: str, *sizes: str) -> None:
    """Draw the clients and merge them once, or not at all; prints the high-water mark."""
    merging = Merging(*map(int, sizes))
    if side != "draw":
        getattr(merging, side)(rule)
    print(high_water())


def run_merging(visual: int, text: int, clients: int, repeats: int) -> None:
    merging = Merging(visual, text, clients)
    entries = len(merging.flat[0])
    for rule in Merging.RULES:
        merging.require_agreement(rule)
        times = best_times({side: partial(getattr(merging, side), rule) for side in ("ours", "theirs")}, repeats)
        peaks = {}
        for side in ("draw", "ours", "theirs"):
            command = [sys.executable, __file__, "--merging-child", rule, side, str(visual), str(text), str(clients)]
            peaks[side] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        extra = {side: peaks[side] - peaks["draw"] for side in ("ours", "theirs")}
        print(
            f"merging        {rule:<15} K = {clients}, {entries / 1e6:.1f}M entries"
            f"   {times['ours']:.2f} s, peft {times['theirs']:.2f} s: "
            f"{times['theirs'] / times['ours']:.1f} times faster"
            f"   {extra['ours']:.0f} MiB more, peft {extra['theirs']:.0f}: "
            f"{extra['theirs'] / extra['ours']:.1f} times less memory",
            flush=True,
        )


def run_paper(visual: int, text: int, clients: int) -> None:
    start = draw_projector(visual, text)
    aggregator = FedCMP()
    for title in ("first round", "with momentum"):
        adding = 0.0
        aggregator.begin(start)
        for update in draw_updates(start, clients):
            started = time.perf_counter()
            aggregator.add(update)
            adding += time.perf_counter() - started
        started = time.perf_counter()
        start = aggregator.finish()
        finishing = time.perf_counter() - started
        parts = f"{adding:.1f} s folding in, {finishing:.1f} s finish"
        print(f"{visual} -> {text} -> {text}, K = {clients}, {title}: {adding + finishing:.1f} s ({parts})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pieces = ("decomposition", "step", "memory", "merging", "paper")
    for piece in pieces:
        parser.add_argument(f"--{piece}", action="store_true", help=f"only the {piece} (pieces can be joined)")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each timing (default 3)")
    parser.add_argument("--memory-child", nargs=2, type=int, metavar=("SIZE", "K"), help=argparse.SUPPRESS)
    parser.add_argument("--merging-child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    threadpoolctl.threadpool_limits(2, user_api="blas")  # SciPy's
    if arguments.memory_child:
        memory_child(*arguments.memory_child)
        return
    if arguments.merging_child:
        merging_child(*arguments.merging_child)
        return
    chosen = [piece for piece in pieces if getattr(arguments, piece)] or list(pieces)
    size = 128 if arguments.quick else 1024
    cohorts = [2, 4] if arguments.quick else [5, 20, 50]
    repeats = 1 if arguments.quick else arguments.repeats
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, matrices {size} x {size}")
    if "decomposition" in chosen:
        run_decomposition(size, cohorts, repeats)
    if "step" in chosen:
        run_step(size, cohorts, repeats)
    if "memory" in chosen:
        run_memory(size, [cohorts[0], cohorts[-1]])
    if "merging" in chosen:
        run_merging(*((64, 128, 2) if arguments.quick else (1024, 4096, 5)), repeats)
    if "paper" in chosen:
        run_paper(*((64, 128, 2) if arguments.quick else (1024, 4096, 5)))


if __name__ == "__main__":
    main()
