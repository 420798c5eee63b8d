"""Embeddings of a collection on disk: what scenarios are cut by, written once for all of them.

    EMB/embeddings.json            what the folder holds; written last, so a folder with it is complete
    EMB/shard-00000.safetensors    image (n, E) and text (n, E), float16 unit vectors; ids, uint8: UTF-8 lines
    EMB/bad_pairs.jsonl            the pairs without embeddings, by name
    EMB/inputs.json                what the shards are made of; written first (`embedding`)

A shard covers the pairs first <= index < stop of its source; bad pairs have no row. Rows are read by offset into
buffers of the caller's size, never mapped: a pass over a collection of any size stays in little memory.

Shapes: N pairs with embeddings, n of them in one shard, E embedding width.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedcmp.data.quality import Rejected
from fedcmp.errors import UserError
from fedcmp.files import write_whole

Part = Literal["image", "text"]
PARTS: tuple[Part, ...] = ("image", "text")
Halves = NDArray[np.float16]
FORMAT = 1
INDEX, BAD_PAIRS = "embeddings.json", "bad_pairs.jsonl"
_GAP, _BLOCK = 64, 4096  # rows that are nearer than that are read together, so many at most
_NORM_TOLERANCE = 0.01  # float16 rounding moves a unit vector's length by less


@dataclass(frozen=True)
class EmbeddingShard:
    """What the index says of one shard.

    Attributes:
        file: its name in the folder.
        first: its first pair's index into the source.
        stop: one past its last pair's index.
        rows: pairs with embeddings.
        sha256: of ids, image and text bytes.
        bad: the pairs without.
    """

    file: str
    first: int
    stop: int
    rows: int
    sha256: str
    bad: tuple[Rejected, ...] = ()


class TornEmbeddings(Exception):  # noqa: N818 - states what was found; callers rebuild or turn it into a UserError
    """A shard that is missing, cut off, altered, or of other embeddings."""


def write_embedding_shard(
    path: Path,
    ids: Sequence[str],
    images: NDArray[np.floating],
    texts: NDArray[np.floating],
    *,
    key: str,
    first: int,
    stop: int,
    bad: Sequence[Rejected] = (),
) -> EmbeddingShard:
    """Write one shard, whole or not at all.

    Args:
        path: where to.
        ids: n names, one line each, unique in the collection.
        images: (n, E) unit vectors of the pictures.
        texts: (n, E) unit vectors of the captions.
        key: names the embeddings that the shard belongs to.
        first: the shard's first pair.
        stop: one past its last pair.
        bad: its pairs without embeddings.

    Raises:
        ValueError: shapes that do not fit each other.
        UserError: an id that is no line of text; a row that is no unit vector; the file cannot be written.
    """
    if not images.shape == texts.shape or len(ids) != len(images) or len(ids) + len(bad) != stop - first:
        raise ValueError(
            f"{path.name}: {len(ids)} ids, images {images.shape}, texts {texts.shape}, {stop - first} pairs"
        )
    for name in ids:
        if reason := bad_id(name):
            raise UserError(f"{path.name}: the id {name!r} {reason}: rename the pair in its source")
    halves: dict[Part, Halves] = {
        "image": np.ascontiguousarray(images, np.float16),
        "text": np.ascontiguousarray(texts, np.float16),
    }
    for part, rows in halves.items():
        check_units(rows, ids, f"{path.name}: {part}")
    encoded = np.frombuffer("\n".join(ids).encode(), np.uint8)
    checksum = _checksum(encoded, halves)
    header = {"key": key, "first": first, "stop": stop, "sha256": checksum, "bad": [list(one) for one in bad]}
    write_whole(
        path,
        save(
            {"ids": encoded, "image": halves["image"], "text": halves["text"]},
            {"fedcmp": json.dumps(header, sort_keys=True)},
        ),
    )
    return EmbeddingShard(path.name, first, stop, len(ids), checksum, tuple(bad))


def read_embedding_shard(path: Path, *, key: str) -> tuple[EmbeddingShard, int]:
    """Check a shard, every byte of it; returns what it says of itself, and E.

    Raises:
        TornEmbeddings: what is wrong with it.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})["fedcmp"])
            encoded = file.get_tensor("ids")
            halves = {part: file.get_tensor(part) for part in PARTS}
        bad = tuple(Rejected(*one) for one in header["bad"])
        shard = EmbeddingShard(path.name, header["first"], header["stop"], len(halves["image"]), header["sha256"], bad)
        if header["key"] != key:
            raise TornEmbeddings("belongs to other embeddings")
    except FileNotFoundError:
        raise TornEmbeddings("is missing") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TornEmbeddings(f"is cut off or damaged ({error})") from None
    if halves["image"].shape != halves["text"].shape or shard.rows + len(bad) != shard.stop - shard.first:
        raise TornEmbeddings("holds another number of rows than its pairs")
    if _checksum(encoded, halves) != shard.sha256:
        raise TornEmbeddings("holds other bytes than its checksum says")
    return shard, halves["image"].shape[1]


def write_index(
    folder: Path,
    shards: Sequence[EmbeddingShard],
    *,
    width: int,
    model: dict[str, str],
    source: dict[str, Any],
    rejected: Sequence[Rejected] = (),
) -> None:
    """Write embeddings.json, which says that the folder is complete, and bad_pairs.jsonl.

    Args:
        folder: that holds the shards.
        shards: in the source's order, without gaps.
        width: E.
        model: name, fingerprint, and what else says which model it was.
        source: name, fingerprint, and how to open it again (format, pairs, images).
        rejected: the records that the source refused when it was opened.
    """
    bad = [*rejected, *(one for shard in shards for one in shard.bad)]
    lines = "".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in bad)
    write_whole(folder / BAD_PAIRS, lines.encode("utf-8", "backslashreplace"))
    content = {
        "format": FORMAT,
        "width": width,
        "pairs": sum(shard.rows for shard in shards),
        "bad_pairs": len(bad),
        "model": model,
        "source": source,
        "shards": [{key: value for key, value in asdict(shard).items() if key != "bad"} for shard in shards],
    }
    write_whole(folder / INDEX, (json.dumps(content, indent=1) + "\n").encode())


class EmbeddingFolder:
    """Embeddings that are complete.

    Attributes:
        folder: where they are.
        width: E.
        shards: in the source's order.
        model: which model made them.
        source: which collection they are of.
    """

    def __init__(self, folder: Path) -> None:
        """Open a folder; the vectors are read later.

        Raises:
            UserError: no embeddings, not complete, or a shard that is missing, cut off or of another width.
        """
        self.folder = Path(folder)
        path = self.folder / INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise UserError(f"{path}: format {content['format']}, not {FORMAT}: embed the collection again")
            self.width, self.model, self.source = int(content["width"]), content["model"], content["source"]
            self.shards = [EmbeddingShard(**shard) for shard in content["shards"]]
        except FileNotFoundError:
            raise UserError(f"{path}: not there: run `fedcmp scenario embed` (again, if it was interrupted)") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: no readable embeddings ({error}): embed the collection again") from None
        self._starts = np.cumsum([0, *(shard.rows for shard in self.shards)])
        self._offsets: dict[tuple[int, Part], int] = {}
        for number, shard in enumerate(self.shards):
            self._check(number, shard)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        """sha256 over all ids and vectors and the model: the same for every copy."""
        known = [self.model.get("fingerprint"), self.width, *(shard.sha256 for shard in self.shards)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def ids(self) -> list[str]:
        """The N ids.

        Raises:
            UserError: one occurs twice; names it.
        """
        found: list[str] = []
        for shard in self.shards:
            if shard.rows:
                with safe_open(self.folder / shard.file, framework="np") as file:
                    found += file.get_tensor("ids").tobytes().decode("utf-8", "replace").split("\n")
        if len(set(found)) < len(found) or len(found) != len(self):
            self.verify()
            seen: set[str] = set()
            twice = next((name for name in found if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]
            raise UserError(f"{self.folder}: the id {twice!r} occurs twice: rename one of the two and embed again")
        return found

    def verify(self) -> None:
        """Read all shards and hold them against their checksums.

        Raises:
            UserError: names the shard whose bytes are not those that were written.
        """
        for shard in self.shards:
            path = self.folder / shard.file
            try:
                with safe_open(path, framework="np") as file:
                    found = _checksum(file.get_tensor("ids"), {part: file.get_tensor(part) for part in PARTS})
            except (OSError, SafetensorError):
                found = ""
            if found != shard.sha256:
                raise UserError(
                    f"{path}: holds other bytes than were written: remove it and run `fedcmp scenario embed` again"
                )

    def rows(self, part: Part, start: int, stop: int) -> Halves:
        """Read (stop - start, E) consecutive rows of one part.

        Raises:
            UserError: a shard was cut off since it was opened.
        """
        out = np.empty((stop - start, self.width), np.float16)
        at = start
        while at < stop:
            number = int(np.searchsorted(self._starts, at, side="right")) - 1
            upto = min(stop, int(self._starts[number + 1]))
            self._read(number, part, at - int(self._starts[number]), out[at - start : upto - start])
            at = upto
        return out

    def gather(self, part: Part, indices: NDArray[np.int64]) -> Halves:
        """Read (n, E) rows of one part by their numbers, in any order."""
        out = np.empty((len(indices), self.width), np.float16)
        order = np.argsort(indices, kind="stable")
        ascending = indices[order]
        apart = (np.diff(ascending) > _GAP) | (np.diff(ascending // _BLOCK) != 0)
        for run in np.split(np.arange(len(indices)), np.flatnonzero(apart) + 1):
            if len(run):
                first, last = int(ascending[run[0]]), int(ascending[run[-1]])
                out[order[run]] = self.rows(part, first, last + 1)[ascending[run] - first]
        return out

    def _check(self, number: int, shard: EmbeddingShard) -> None:
        path = self.folder / shard.file
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, size)))
            for part in PARTS:
                entry = header[part]
                if entry["dtype"] != "F16" or entry["shape"] != [shard.rows, self.width]:
                    raise UserError(
                        f"{path}: {part} is {entry['dtype']} {entry['shape']}, but {INDEX} says F16 "
                        f"{[shard.rows, self.width]}: shards of two embeddings are mixed; embed into a new folder"
                    )
                begin, end = entry["data_offsets"]
                if begin < 0 or end - begin != 2 * shard.rows * self.width:
                    raise ValueError(f"{part} has another size than its shape")
                self._offsets[number, part] = 8 + length + begin
            if 8 + length + max(header[name]["data_offsets"][1] for name in ("ids", *PARTS)) > size:
                raise UserError(f"{path}: is cut off: remove it and run `fedcmp scenario embed` again")
            if json.loads(header["__metadata__"]["fedcmp"])["sha256"] != shard.sha256:
                raise UserError(
                    f"{path}: is of other embeddings than {INDEX} lists: put the right file back, or embed into a new "
                    "folder"
                )
        except FileNotFoundError:
            raise UserError(f"{path}: is missing: run `fedcmp scenario embed` again") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: is damaged ({error}): remove it and run `fedcmp scenario embed` again") from None

    def _read(self, number: int, part: Part, row: int, out: Halves) -> None:
        path = self.folder / self.shards[number].file
        offset = self._offsets[number, part] + row * self.width * 2
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            view = memoryview(out.view(np.uint8).data).cast("B")
            while len(view):
                read = file.readinto(view)
                if not read:
                    raise UserError(f"{path}: ends early: remove it and run `fedcmp scenario embed` again")
                view = view[read:]


def bad_id(name: str) -> str | None:
    """Why a name cannot stand in a list of ids, one a line of UTF-8; None if it can."""
    if name.splitlines() != [name]:
        return "is no single line of text"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return None


def check_units(rows: NDArray[np.floating], ids: Sequence[str], place: str) -> None:
    """Refuse rows that are no unit vectors.

    Raises:
        UserError: names how many, and the first one's id.
    """
    norms = np.linalg.norm(rows.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # NaN is wrong too
    if len(wrong):
        first = int(wrong[0])
        what = "is not finite" if not np.isfinite(norms[first]) else f"has length {norms[first]:.3g}, not 1"
        raise UserError(
            f"{place}: {len(wrong)} of {len(rows)} rows are no unit vectors; the one of {ids[first]!r} {what}: "
            "embed these pairs again, in float32 if the model overflows in half precision"
        )


def _checksum(encoded: NDArray[np.uint8], halves: dict[Part, Halves]) -> str:
    digest = hashlib.sha256(encoded.tobytes())
    for part in PARTS:
        digest.update(np.ascontiguousarray(halves[part]).data)
    return digest.hexdigest()
