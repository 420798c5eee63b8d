"""Several ranks as threads of the test's own process: the arithmetic of a group without its processes."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from fedcmp.distributed import Group

Result = TypeVar("Result")


class ThreadGroup(Group):
    """One rank; all of them share a table and a barrier."""

    def __init__(self, rank: int, size: int, table: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, size
        self._table, self._barrier = table, barrier
        self.sent = 0  # sums that this rank took part in

    def gather(self, value: Any) -> list[Any]:
        self._table[self.rank] = value
        self._barrier.wait()
        everyone = list(self._table)
        self._barrier.wait()
        return everyone

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.sent += 1
        brought = self.gather([tensor.detach().clone() for tensor in tensors])
        assert len({tuple((t.shape, t.dtype) for t in own) for own in brought}) == 1, "ranks brought different tensors"
        return [torch.stack(parts).sum(0) for parts in zip(*brought, strict=True)]


def on_ranks(size: int, work: Callable[[Group], Result]) -> list[Result]:
    """What `work` returns on each of `size` ranks; the first failure is raised."""
    table: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=60)
    results: list[Any] = [None] * size
    failures: list[BaseException] = []

    def one(rank: int) -> None:
        try:
            results[rank] = work(ThreadGroup(rank, size, table, barrier))
        except threading.BrokenBarrierError:
            pass  # another rank failed
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    return results
