"""From pictures' files and captions to vectors, batch by batch; and how batches travel between processes.

Pictures are read, decoded and scaled in threads while the model is busy with those before.

Shapes: B pairs in a batch, n of them usable, E embedding width.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedcmp.data.images import decode_image
from fedcmp.data.quality import BadPair
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.scaling import TooLargeAfterResizing
from fedcmp.scenarios.embeddings.folder import Halves
from fedcmp.wire.frames import Frame, Header, Tensors

_AHEAD = 2  # batches whose pictures are under way
IN_FLIGHT = _AHEAD + 1  # batches that a worker has at hand: one to embed, the others to read


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
        self._model, self._max_pixels = model, max_pixels
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None

    def embed(self, batches: Iterable[Batch]) -> Iterator[Vectors]:
        """Embed batches in their order, reading a few ahead."""
        ahead: deque[Callable[[], Vectors]] = deque()
        for batch in batches:
            ahead.append(self.begin(batch))
            if len(ahead) > (_AHEAD if self._threads else 0):
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()

    def begin(self, batch: Batch) -> Callable[[], Vectors]:
        """Let the threads, if there are several, read a batch's pictures; what is returned embeds it."""
        if self._threads is None:
            return lambda: self._vectors(batch, [self._prepared(read) for read in batch.pictures])
        pictures = [self._threads.submit(self._prepared, read) for read in batch.pictures]
        return lambda: self._vectors(batch, [picture.result() for picture in pictures])

    def _prepared(self, read: Callable[[], bytes]) -> dict[str, Tensor] | BadPair:
        try:
            return self._model.prepare([decode_image(read(), max_pixels=self._max_pixels)])
        except BadPair as bad:
            return bad
        except TooLargeAfterResizing as error:
            return BadPair("too large after resizing", str(error))

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


def frame_of_batch(batch: Batch) -> Frame:
    """Read a batch's pictures into a frame: their files' bytes one after another, in one tensor."""
    sizes: list[int | tuple[str, str]] = []
    content = bytearray()
    for read in batch.pictures:
        try:
            picture = read()
        except BadPair as bad:
            sizes.append((bad.reason, bad.detail))
        else:
            content += picture
            sizes.append(len(picture))
    files = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return {"captions": list(batch.captions), "pictures": sizes}, {"files": files}


def batch_from(header: Header, tensors: Tensors) -> Batch:
    """The batch that `frame_of_batch` made a frame of."""
    pictures: list[Callable[[], bytes]] = []
    start, content = 0, tensors["files"].numpy()
    for size in header["pictures"]:
        if isinstance(size, int):
            pictures.append(content[start : start + size].tobytes)
            start += size
        else:
            pictures.append(partial(_refuse, *size))
    return Batch(header["captions"], pictures)


def frame_of_vectors(vectors: Vectors) -> Frame:
    """Make a frame of a batch's vectors."""
    bad = {str(number): (one.reason, one.detail) for number, one in vectors.bad.items()}
    return {"bad": bad}, {"image": torch.from_numpy(vectors.image), "text": torch.from_numpy(vectors.text)}


def vectors_from(header: Header, tensors: Tensors) -> Vectors:
    """The vectors that `frame_of_vectors` made a frame of."""
    bad = {int(number): BadPair(*told) for number, told in header["bad"].items()}
    return Vectors(bad, tensors["image"].numpy(), tensors["text"].numpy())


def _refuse(reason: str, detail: str) -> bytes:
    raise BadPair(reason, detail)
