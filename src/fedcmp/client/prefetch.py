"""The next batch made ready while the accelerator is busy with this one.

On a CPU a loader would only take time from the arithmetic: there every batch is made when it is asked for.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class Ahead(Iterator[T], Generic[T]):
    """make(0), make(1), ... make(count - 1), in order, each made by one thread while its predecessor is used.

    Args:
        make: called with the item's number, in one other thread, never twice at a time.
        count: how many items.
        depth: how many may lie ready or be in the making; 0: no thread, each is made when it is asked for.

    What `make` raises is raised where its item was due. `close` ends the thread early.
    """

    def __init__(self, make: Callable[[int], T], count: int, *, depth: int) -> None:
        self._make, self._count, self._next = make, count, 0
        self._closed = threading.Event()
        self._ready: queue.Queue[T | _Failed] = queue.Queue()
        self._room = threading.Semaphore(depth)
        self._thread = threading.Thread(target=self._work, daemon=True) if depth > 0 else None
        if self._thread is not None:
            self._thread.start()

    def _work(self) -> None:
        for number in range(self._count):
            self._room.acquire()
            if self._closed.is_set():
                return
            try:
                self._ready.put(self._make(number))
            except BaseException as error:  # raised again in the thread that asked for it
                self._ready.put(_Failed(error))
                return

    def __next__(self) -> T:
        if self._next >= self._count or self._closed.is_set():
            raise StopIteration
        self._next += 1
        if self._thread is None:
            return self._make(self._next - 1)
        item = self._ready.get()
        self._room.release()
        if isinstance(item, _Failed):
            self.close()
            raise item.error
        return item

    def close(self) -> None:
        """End the thread; what is ready is thrown away."""
        self._closed.set()
        self._room.release()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> "Ahead[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
