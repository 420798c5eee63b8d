"""Frozen features: what the vision encoder makes of the pictures, computed in passing.

`OnTheFlyFeatures` and `store.FeatureStore` are both a `FeatureSource`: the same pairs count as bad, and the features
are the same, as far as the encoder's own result for a picture does not depend on the pictures beside it.

Shapes: n pictures, P patches (visual tokens) a picture, D width of the vision encoder.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from fedcmp.data.feature_forms import FeatureDtype, FeatureForm, feature_form, pack, unpack
from fedcmp.data.images import DEFAULT_MAX_PIXELS, BadImage, decode_image
from fedcmp.data.quality import BadPair, BadPairs, Rejected
from fedcmp.data.source import PairSource
from fedcmp.errors import UserError
from fedcmp.model.scaling import TooLargeAfterResizing


class ImageEncoder(Protocol):
    """A frozen vision encoder with its preprocessing."""

    def resized(self, image: Image.Image) -> Image.Image:
        """Return what `encode` would make of an RGB picture's size first; called by several threads at a time."""
        ...

    def encode(self, images: list[Image.Image]) -> Tensor:
        """Encode n RGB pictures, resized or of any size, to (n, P, D) features, the same P and D every time."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the weights, the preprocessing and the layer that the features come from."""
        ...


class FeatureSource(Protocol):
    """Features of a source's pictures by the pairs' indices."""

    @property
    def dtype(self) -> torch.dtype:
        """The features' type."""
        ...

    def features(self, indices: ArrayLike) -> Tensor:
        """Return the (n, P, D) features of n usable pairs.

        Raises:
            ValueError: one of the pairs is bad or not there.
        """
        ...

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.int64], Tensor]:
        """Return those of the indices whose pictures are usable, in their order, and their (n, P, D) features."""
        ...


class OnTheFlyFeatures:
    """A `FeatureSource` that reads, decodes and encodes pictures when they are asked for, and keeps nothing."""

    def __init__(
        self,
        source: PairSource,
        encoder: ImageEncoder,
        *,
        feature_dtype: FeatureDtype = "float16",
        bad_pairs: BadPairs | None = None,
        batch_size: int = 64,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        decode_threads: int = 1,
    ):
        """Set up; no picture is read yet.

        Args:
            source: the pairs.
            encoder: the frozen encoder.
            feature_dtype: the form that the encoder's output is brought into, and read back from, as a store would.
            bad_pairs: the ledger that stops a pass with too many bad pairs; none counts them without a limit.
            batch_size: most pictures a call of the encoder.
            max_pixels: see `images.decode_image`.
            decode_threads: pictures decoded and resized at a time.
        """
        self.source, self.encoder, self.dtype = source, encoder, torch_dtype(feature_dtype)
        self._form = feature_form(feature_dtype)
        self.bad: dict[int, Rejected] = {}
        self._ledger, self._batch_size = bad_pairs, batch_size
        self._max_pixels, self._threads = max_pixels, decode_threads
        self._empty: Tensor | None = None

    def features(self, indices: ArrayLike) -> Tensor:
        """Return the (n, P, D) features of n usable pairs; see `FeatureSource`."""
        kept, features = self.gather(indices)
        if len(kept) != np.size(indices):
            bad = next(self.bad[index] for index in np.ravel(np.asarray(indices)).tolist() if index in self.bad)
            raise ValueError(f"{bad.place}: {bad.reason}: bad pairs have no features; gather() leaves them out")
        return features

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.int64], Tensor]:
        """Return the usable ones of the indices and their (n, P, D) features; see `FeatureSource`.

        Raises:
            UserError: the ledger's limit is passed, or the encoder's output does not fit the type.
        """
        wanted = [index for index in np.ravel(np.asarray(indices, np.int64)).tolist() if index not in self.bad]
        kept: list[int] = []
        images: list[Image.Image] = []
        encoded: list[Tensor] = []
        pictures = decoded(
            self.source, wanted, resize=self.encoder.resized, max_pixels=self._max_pixels, threads=self._threads
        )
        for index, picture in pictures:
            if isinstance(picture, BadPair):
                self._note(index, picture)
                continue
            kept.append(index)
            images.append(picture)
            if len(images) == self._batch_size:
                encoded.append(self._encoded(images))
                images = []
        if images:
            encoded.append(self._encoded(images))
        features = torch.cat(encoded) if encoded else self._no_features()
        return np.array(kept, np.int64), features

    def _encoded(self, images: list[Image.Image]) -> Tensor:
        return unpack(*stored_pictures(self.encoder, images, self._form))

    def _note(self, index: int, problem: BadPair) -> None:
        bad = self.bad[index] = rejected_pair(self.source, index, problem)
        if self._ledger is not None:
            self._ledger.add(bad)

    def _no_features(self) -> Tensor:
        if self._empty is None:
            self._empty = torch.empty(0, *feature_shape(self.encoder), dtype=self.dtype)
        return self._empty


def torch_dtype(name: str) -> torch.dtype:
    """Return the type that readers get of a recipe's name; UserError: there is no such name."""
    return feature_form(name).read


def feature_shape(encoder: ImageEncoder) -> tuple[int, int]:
    """Return (P, D), from a blank picture."""
    patches, width = encode_pictures(encoder, [Image.new("RGB", (32, 32))], dtype=torch.float32).shape[1:]
    return patches, width


def encode_pictures(encoder: ImageEncoder, images: list[Image.Image], *, dtype: torch.dtype) -> Tensor:
    """Encode n pictures without gradients.

    Returns:
        (n, P, D) finite features on the CPU.

    Raises:
        ValueError: the encoder returned another shape, or NaN.
        UserError: a feature is too large for the type.
    """
    with torch.no_grad():
        output = encoder.encode(images).detach()
        if output.ndim != 3 or len(output) != len(images):
            raise ValueError(f"the encoder returned {tuple(output.shape)} for {len(images)} pictures: needs (n, P, D)")
        features = output.to("cpu", dtype)
        if not torch.isfinite(features).all():
            if not torch.isfinite(output).all():
                raise ValueError("the vision encoder returned NaN or infinity: check its weights")
            raise UserError(
                f"the vision encoder's features reach {output.abs().max().item():.3g}, too large for "
                f"{str(dtype).removeprefix('torch.')}: set feature_dtype to bfloat16 or float32"
            )
        return features


def stored_pictures(
    encoder: ImageEncoder, images: list[Image.Image], form: FeatureForm
) -> tuple[Tensor, Tensor | None]:
    """Encode n pictures into their stored form: (n, P, D) numbers and (n, P) scales, if any; see `encode_pictures`."""
    return pack(encode_pictures(encoder, images, dtype=form.read), form)


def decoded(
    source: PairSource,
    indices: Iterable[int],
    *,
    max_pixels: int,
    threads: int = 1,
    resize: Callable[[Image.Image], Image.Image] | None = None,
) -> Iterator[tuple[int, Image.Image | BadPair]]:
    """Read, decode and resize pictures in the order of `indices`, a few ahead of the reader with more than one thread.

    Args:
        source: the pairs.
        indices: which of them.
        max_pixels: see `images.decode_image`.
        threads: pictures that are worked on at a time; the result is the same.
        resize: the encoder's; none leaves pictures as they are.

    Yields:
        (index, the RGB picture) or (index, what is wrong with the pair).
    """

    def one(index: int) -> tuple[int, Image.Image | BadPair]:
        try:
            picture = decode_image(source.read_image(index), max_pixels=max_pixels)
            return index, picture if resize is None else resize(picture)
        except BadPair as bad:
            return index, bad
        except TooLargeAfterResizing as error:
            return index, BadImage("too large after resizing", str(error))

    if threads <= 1:
        yield from map(one, indices)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[tuple[int, Image.Image | BadPair]]] = deque()
        for index in indices:
            ahead.append(pool.submit(one, index))
            if len(ahead) >= 4 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def rejected_pair(source: PairSource, index: int, problem: BadPair) -> Rejected:
    """Return the ledger's entry for a pair whose picture cannot be used."""
    try:
        key = source.pair(index).key
    except BadPair:
        key = str(index)
    return Rejected(key, source.locate(index), problem.reason, problem.detail)
