"""Walking through large tensors in blocks that stay in the processor's cache.

A rule is a chain of elementwise steps.  Over whole tensors each step reads and writes main memory, and each temporary
is fetched anew from the operating system: for a projector of 21 million entries that takes ten times longer than the
sums themselves.  Block by block the chain runs in the cache, and a temporary in float64 is a quarter of a megabyte.
A block is not longer than what torch works on in one thread: threads that wait for each other after each short step
gain little on idle cores, and lose many times that on busy ones.
"""

from collections.abc import Iterator

from torch import Tensor

BLOCK = 2**15  # entries; even, so that a random stream of pairs continues from block to block


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same stretch of several tensors, one stretch after the other.

    Args:
        *tensors: as many entries each, on one device, any shapes and dtypes. One that is written to must be
            contiguous: of any other, the stretches are copies.

    Yields:
        One flat view for each tensor, BLOCK entries long (on a GPU: the whole tensor).
    """
    size = BLOCK if tensors[0].device.type == "cpu" else max(1, tensors[0].numel())
    yield from zip(*(tensor.reshape(-1).split(size) for tensor in tensors), strict=True)
