"""Build a feature store's shards one by one, keeping those that an earlier build left whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image

from fedcmp.data.feature_forms import FeatureForm
from fedcmp.data.features import ImageEncoder, decoded, rejected_pair, stored_pictures
from fedcmp.data.quality import BadPair, BadPairs, Rejected, logger
from fedcmp.data.shards import Shard, TornShard, read_shard, shard_name, write_shard
from fedcmp.data.source import PairSource
from fedcmp.distributed import Group
from fedcmp.errors import UserError
from fedcmp.files import TEMPORARY

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class ShardBuilder:
    """What all shards of one store share.

    Attributes:
        source: the pairs.
        encoder: the frozen encoder.
        key: the store's.
        shape: (P, D), patches a picture and width of the encoder.
        form: how the features are stored.
        batch_size: pictures a call of the encoder.
        max_pixels: see `images.decode_image`.
        decode_threads: pictures decoded and resized at a time.
        ledger: counts the bad pairs.
        progress: called with (pairs done, pairs in all).
    """

    source: PairSource
    encoder: ImageEncoder
    key: str
    shape: tuple[int, int]
    form: FeatureForm
    batch_size: int
    max_pixels: int
    decode_threads: int
    ledger: BadPairs
    progress: Progress

    def shards(self, target: Path, size: int, group: Group) -> list[Shard]:
        """Make all shards of `size` pairs, each rank a consecutive share of them, and wait for the others.

        Returns:
            All shards, in order, on every rank.

        Raises:
            UserError: see `keep_or_encode`; or another rank failed.
        """
        total = len(self.source)
        firsts = range(0, total, size)
        mine = [firsts[number] for number in group.share(len(firsts))]
        own = [self.keep_or_encode(target / shard_name(first, size), first, min(first + size, total)) for first in mine]
        if group.size == 1:
            return own
        everyone = group.gather([asdict(shard) for shard in own])
        return [Shard.from_dict(shard) for made in everyone for shard in made]

    def keep_or_encode(self, path: Path, first: int, stop: int) -> Shard:
        """Check the shard that is there, every byte of it, or make it.

        Args:
            path: the shard's file.
            first: its first pair.
            stop: one past its last pair.

        Raises:
            UserError: too many bad pairs, or the file cannot be written.
        """
        try:
            mapped = read_shard(path, key=self.key, verify=True)
            shard, features = mapped.shard, mapped.features
            if (shard.first, shard.stop) != (first, stop):
                raise TornShard("holds other pairs")
            scaled = self.form.largest is not None
            of_form = features.dtype == self.form.stored and (mapped.scales is not None) == scaled
            if tuple(features.shape[1:]) != self.shape or not of_form:
                raise TornShard("holds features of another shape or type")
        except TornShard as torn:
            if path.exists():
                logger.warning("%s: %s: it is computed anew", path, torn)
            return self._encode(path, first, stop)
        self.ledger.recall(shard.bad)
        self.progress(stop, len(self.source))
        return shard

    def _encode(self, path: Path, first: int, stop: int) -> Shard:
        features = torch.empty(stop - first, *self.shape, dtype=self.form.stored)
        scales = None if self.form.largest is None else torch.empty(stop - first, self.shape[0])
        rows: list[int] = []
        bad: list[Rejected] = []
        images: list[Image.Image] = []  # of the last rows, not encoded yet
        pictures = decoded(
            self.source,
            range(first, stop),
            resize=self.encoder.resized,
            max_pixels=self.max_pixels,
            threads=self.decode_threads,
        )
        for index, picture in pictures:
            if isinstance(picture, BadPair):
                bad.append(rejected_pair(self.source, index, picture))
                self.ledger.add(bad[-1])
            else:
                images.append(picture)
                rows.append(index)
            if len(images) == self.batch_size or (images and index == stop - 1):
                encoded, their_scales = stored_pictures(self.encoder, images, self.form)
                if tuple(encoded.shape[1:]) != self.shape:
                    raise ValueError(f"the encoder returned (n, P, D) = {tuple(encoded.shape)} after {self.shape}")
                place = slice(len(rows) - len(images), len(rows))
                features[place] = encoded
                if scales is not None and their_scales is not None:
                    scales[place] = their_scales
                images = []
            if not images:
                self.progress(index + 1, len(self.source))
        return write_shard(
            path,
            features[: len(rows)],
            np.array(rows, np.int64),
            scales=None if scales is None else scales[: len(rows)],
            key=self.key,
            first=first,
            stop=stop,
            bad=bad,
        )


@contextmanager
def turn_to_build(target: Path) -> Iterator[None]:
    """Hold the store's lock, waiting for another process that builds it, and clear what a killed one left half-written.

    Raises:
        UserError: the folder cannot be written.
    """
    lock = FileLock(target / "build.lock")
    try:
        target.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s: another process is building this store: waiting for it", target)
            lock.acquire()
    except OSError as error:
        raise UserError(f"{target}: the feature store cannot be written: {error.strerror or error}") from None
    try:
        for left_over in target.glob(f"*{TEMPORARY}"):
            left_over.unlink()
        yield
    finally:
        lock.release()
