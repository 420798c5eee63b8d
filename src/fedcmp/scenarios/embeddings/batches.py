"""From pictures' files and captions to vectors, batch by batch; and how batches travel between processes.

Pictures are read, decoded and scaled in threads while the model is busy with those before. A frame is one JSON header
and bytes: 4 bytes length of the header, 8 bytes length of the rest (little endian), header, rest.

Shapes: B pairs in a batch, n of them usable, E embedding width.
"""

import json
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from fedcmp.data.images import decode_image
from fedcmp.data.quality import BadPair
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.scenarios.embeddings.folder import Halves

_AHEAD = 2  # batches whose pictures are under way
IN_FLIGHT = _AHEAD + 1  # batches that a worker needs at hand, or the end, to go on
_LENGTHS = struct.Struct("<IQ")


@dataclass(frozen=True)
class Batch:
    """B pairs.

    Attributes:
        captions: B texts.
        pictures: B functions that read a picture's file, or raise BadPair; threads call them.
    """

    captions: Sequence[str]
    pictures: Sequence[Callable[[], bytes]]


@dataclass(frozen=True)
class Vectors:
    """What became of a batch.

    Attributes:
        bad: which of the B pictures are unusable, and why.
        image: (n, E) of the others, in their order.
        text: (n, E) of their captions.
    """

    bad: dict[int, BadPair]
    image: Halves
    text: Halves


class Embedder:
    """Embeds batches by one model.

    Args:
        model: the dual encoder.
        max_pixels: see `data.images.decode_image`.
        threads: pictures decoded at a time.
    """

    def __init__(self, model: DualEncoder, *, max_pixels: int, threads: int = 1) -> None:
        self._model, self._max_pixels, self._threads = model, max_pixels, threads

    def embed(self, batches: Iterable[Batch]) -> Iterator[Vectors]:
        """Embed batches in their order, reading a few ahead."""
        if self._threads <= 1:
            for batch in batches:
                yield self._vectors(batch, [self._prepared(read) for read in batch.pictures])
            return
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[tuple[Batch, list[Future[dict[str, Tensor] | BadPair]]]] = deque()
            for batch in batches:
                ahead.append((batch, [pool.submit(self._prepared, read) for read in batch.pictures]))
                if len(ahead) > _AHEAD:
                    first, pictures = ahead.popleft()
                    yield self._vectors(first, [picture.result() for picture in pictures])
            for batch, pictures in ahead:
                yield self._vectors(batch, [picture.result() for picture in pictures])

    def _prepared(self, read: Callable[[], bytes]) -> dict[str, Tensor] | BadPair:
        try:
            return self._model.prepare([decode_image(read(), max_pixels=self._max_pixels)])
        except BadPair as bad:
            return bad

    def _vectors(self, batch: Batch, pictures: Sequence[dict[str, Tensor] | BadPair]) -> Vectors:
        bad = {number: picture for number, picture in enumerate(pictures) if isinstance(picture, BadPair)}
        good = [picture for picture in pictures if not isinstance(picture, BadPair)]
        if not good:
            return Vectors(bad, np.empty((0, 0), np.float16), np.empty((0, 0), np.float16))
        captions = [caption for number, caption in enumerate(batch.captions) if number not in bad]
        image = self._model.prepared_images({name: torch.cat([one[name] for one in good]) for name in good[0]})
        text = self._model.texts(captions)
        finite = (image.isfinite().all(1) & text.isfinite().all(1)).numpy()
        if not finite.all():  # half precision may overflow on a strange picture: one pair is lost, not the collection
            usable = [number for number in range(len(batch.captions)) if number not in bad]
            lost = [number for number, is_finite in zip(usable, finite, strict=True) if not is_finite]
            bad |= {number: BadPair("not finite", "its embedding") for number in lost}
        return Vectors(dict(sorted(bad.items())), image[finite].half().numpy(), text[finite].half().numpy())


def send(stream: IO[bytes], header: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
    """Send one frame.

    Raises:
        BrokenPipeError: the other side has gone.
    """
    head = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(head), sum(map(len, parts))))
    stream.write(head)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Receive one frame.

    Raises:
        EOFError: the other side has gone.
    """
    head_length, length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    return json.loads(_exactly(stream, head_length)), _exactly(stream, length)


def send_batch(stream: IO[bytes], batch: Batch) -> None:
    """Read a batch's pictures and send it; see `send`."""
    sizes: list[int | tuple[str, str]] = []
    parts: list[bytes] = []
    for read in batch.pictures:
        try:
            parts.append(read())
            sizes.append(len(parts[-1]))
        except BadPair as bad:
            sizes.append((bad.reason, bad.detail))
    send(stream, {"captions": list(batch.captions), "pictures": sizes}, parts)


def batch_from(header: dict[str, Any], content: bytes) -> Batch:
    """The batch that `send_batch` sent."""
    pictures: list[Callable[[], bytes]] = []
    start = 0
    for size in header["pictures"]:
        if isinstance(size, int):
            pictures.append(partial(bytes, content[start : start + size]))
            start += size
        else:
            pictures.append(partial(_refuse, *size))
    return Batch(header["captions"], pictures)


def send_vectors(stream: IO[bytes], vectors: Vectors) -> None:
    """Send a batch's vectors; see `send`."""
    bad = {str(number): (one.reason, one.detail) for number, one in vectors.bad.items()}
    send(stream, {"bad": bad, "shape": vectors.image.shape}, [vectors.image.tobytes(), vectors.text.tobytes()])


def vectors_from(header: dict[str, Any], content: bytes) -> Vectors:
    """The vectors that `send_vectors` sent."""
    halves = np.frombuffer(content, np.float16).reshape(2, *header["shape"])
    bad = {int(number): BadPair(*told) for number, told in header["bad"].items()}
    return Vectors(bad, halves[0], halves[1])


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other side has gone")
    return data


def _refuse(reason: str, detail: str) -> bytes:
    raise BadPair(reason, detail)
