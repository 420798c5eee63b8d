"""WebDataset tars: the picture and the caption of a pair are members with one name before the first dot.

    000017.jpg + 000017.txt, or 000017.jpg + 000017.json with "caption" or "text" (and "group"); with both, .txt is
    the caption and .json gives the group only.

Each shard's headers are scanned once; afterwards pictures and captions are read by offset. Members of a pair need not
stand side by side. A torn shard's whole members are used; the tear itself is counted as one bad pair and named. A
picture without a caption, a caption without a picture, and a name that occurs twice in a shard (the first stays) are
bad pairs too. Keys are "shard/name", as most shards number their pairs alike; a second shard with the same file name
becomes "shard~2". Other members are ignored.

The fingerprint is a sha256 over the keys, the pictures' member names and sizes, and the captions' bytes: the same for
every copy of the shards, however they are packed. A picture that is replaced by another of equal name and size is not
noticed.
"""

import glob
import hashlib
import json
import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from fedcmp.data.captions import clean_caption
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.reading import RandomReader
from fedcmp.data.source import Pair
from fedcmp.errors import UserError

PICTURES = frozenset(["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"])
MAX_TEXT_BYTES = 2**20  # of one caption or JSON member
END_BLOCK = bytes(512)


class Member(NamedTuple):
    """A member's content in its shard; 0 bytes stands for no member."""

    name: str = ""
    offset: int = 0
    size: int = 0


NO_MEMBER = Member()
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # first bytes of gzip, bzip2, xz, zstandard


@dataclass
class _Sample:
    """The members that share a name."""

    picture: Member = NO_MEMBER
    text: Member = NO_MEMBER
    record: Member = NO_MEMBER


class TarPairs:
    """A `PairSource` over WebDataset tar shards."""

    def __init__(self, shards: Sequence[Path]):
        """Scan the shards' headers and captions.

        Args:
            shards: uncompressed tar files, each once, at least one.

        Raises:
            UserError: a shard is missing, named twice, or not a tar; or there is no pair in all of them.
        """
        self.shards = list(shards)
        self.name = self.shards[0].name + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
        self.rejected: list[Rejected] = []
        self._shard = array("I")
        self._picture_name: list[str] = []
        self._places = array("Q")  # six a pair: offset and size of the picture, of the .txt, of the .json
        self._reader = RandomReader()
        if doubled := [path for path, count in Counter(self.shards).items() if count > 1]:
            raise UserError(f"{doubled[0]}: the shard is named twice: name each shard once")
        self._labels = _shard_labels(self.shards)
        digest = hashlib.sha256(b"webdataset")
        for number in range(len(self.shards)):
            self._scan(number, digest)
        self._fingerprint = digest.hexdigest()
        if not len(self):
            counts = Counter(bad.reason for bad in self.rejected)
            found = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "no members"
            raise UserError(
                f"{self.shards[0]}: no usable pairs ({found}): expected members such as 000017.jpg with 000017.txt or "
                "000017.json"
            )

    def __len__(self) -> int:
        return len(self._shard)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        _, _, *texts = self._places[6 * index : 6 * index + 6]
        _, caption, group = self._annotation(self.shards[self._shard[index]], *texts)
        return Pair(self._key(self._shard[index], self._picture_name[index]), caption, group)

    def read_image(self, index: int) -> bytes:
        """Read one picture's member; see `PairSource`."""
        offset, size = self._places[6 * index : 6 * index + 2]
        return self._reader.read(self.shards[self._shard[index]], offset, size)

    def fingerprint(self) -> str:
        """Return the sha256 over keys, pictures' names and sizes, and captions."""
        return self._fingerprint

    def locate(self, index: int) -> str:
        """Return "shard: member"."""
        return f"{self.shards[self._shard[index]].name}: {self._picture_name[index]}"

    def _key(self, shard: int, member: str) -> str:
        return f"{self._labels[shard]}/{base_plus_ext(member)[0]}"

    def _annotation(
        self, path: Path, text_offset: int, text_size: int, record_offset: int, record_size: int
    ) -> tuple[bytes, str, str | None]:
        """Read a pair's caption members: their bytes, the caption, the group."""
        if max(text_size, record_size) > MAX_TEXT_BYTES:
            raise BadPair("too large", "caption")
        text = self._reader.read(path, text_offset, text_size) if text_size else b""
        record_bytes = self._reader.read(path, record_offset, record_size) if record_size else b""
        try:
            record = json.loads(record_bytes) if record_size else {}
            caption = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadPair("not UTF-8") from None
        except (ValueError, RecursionError):
            raise BadPair("malformed record") from None
        if not isinstance(record, dict):
            raise BadPair("malformed record", "not an object")
        if not text_size:
            field = record.get("caption") if record.get("caption") is not None else record.get("text")
            if not isinstance(field, str):
                raise BadPair("no caption")
            caption = field
        group = record.get("group")
        return text + b"\0" + record_bytes, clean_caption(caption), None if group is None else str(group)

    def _scan(self, number: int, digest: "hashlib._Hash") -> None:
        """Index one shard's pairs, in the order in which their first members stand."""
        path, samples = self.shards[number], dict[str, _Sample]()
        for base, extension, member in _members(path, self.rejected):
            sample = samples.setdefault(base, _Sample())
            field = "text" if extension == "txt" else "record" if extension == "json" else "picture"
            if getattr(sample, field).name:
                reason = "several images" if field == "picture" else "several captions"
                self._reject(number, member.name, reason)
            else:
                setattr(sample, field, member)
        for sample in samples.values():
            picture, text, record = sample.picture, sample.text, sample.record
            if not picture.name or not (text.name or record.name):
                member = picture if picture.name else text if text.name else record
                self._reject(number, member.name, "no caption" if picture.name else "no image")
                continue
            try:
                if text.name and not text.size:
                    raise BadPair("empty caption")
                places = text.offset, text.size, record.offset, record.size
                annotation, _, _ = self._annotation(path, *places)
            except BadPair as bad:
                self._reject(number, picture.name, bad.reason, bad.detail)
                continue
            digest.update(
                f"{self._key(number, picture.name)}\0{picture.name}\0{picture.size}\0".encode(
                    "utf-8", "surrogateescape"
                )
            )
            digest.update(len(annotation).to_bytes(8, "little") + annotation)
            self._shard.append(number)
            self._picture_name.append(picture.name)
            self._places.extend((picture.offset, picture.size, *places))

    def _reject(self, shard: int, member: str, reason: str, detail: str = "") -> None:
        place = f"{self.shards[shard].name}: {member}"
        self.rejected.append(Rejected(self._key(shard, member), place, reason, detail))


def _members(path: Path, rejected: list[Rejected]) -> Iterator[tuple[str, str, Member]]:
    """Yield (name before the first dot, extension, member) of a shard's pictures and captions; note a tear."""
    try:
        with path.open("rb") as file:
            for entry in _entries(path, file):
                base, extension = base_plus_ext(entry.name)
                extension = (extension or "").lower()
                wanted = extension in PICTURES or extension in ("txt", "json")
                if wanted and entry.isreg() and not entry.issparse():
                    yield base, extension, Member(entry.name, entry.offset_data, entry.size)
    except tarfile.TarError as tear:
        rejected.append(Rejected(path.name, path.name, "torn shard", str(tear)))
    except OSError as error:
        raise UserError(f"{path}: the shard cannot be read: {error.strerror}") from None


def _entries(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's whole members.

    Raises:
        UserError: not a tar at all.
        TarError: the tar is cut off or damaged here; what was yielded before is whole.
    """
    size, start = os.fstat(file.fileno()).st_size, file.read(len(END_BLOCK))
    file.seek(0)
    if start.startswith(_COMPRESSED) and start[257:262] != b"ustar":  # tarfile takes a few of them for tars by chance
        raise UserError(f"{path}: not an uncompressed tar: pack it again without compression")
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closed by the with below
    except tarfile.TarError as error:
        if size < len(END_BLOCK) or start[257:262] == b"ustar":
            raise tarfile.ReadError("cut off before its first member") from None
        raise UserError(f"{path}: not an uncompressed tar ({error}): pack it again without compression") from None
    with tar:
        while (entry := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # missing in the stubs; it would keep every member
            if entry.offset_data + entry.size > size:
                raise tarfile.ReadError(f"cut off inside {entry.name}")
            yield entry
        file.seek(tar.offset)
        if file.read(len(END_BLOCK)) != END_BLOCK:  # tarfile takes a damaged header for the end
            raise tarfile.ReadError(f"cut off or damaged at byte {tar.offset:,}")


def _shard_labels(shards: Sequence[Path]) -> list[str]:
    """Return the shards' names without suffix, later ones of the same name numbered: "shard", "shard~2"."""
    labels: list[str] = []
    for path in shards:
        label, occurrence = path.stem, 1
        while label in labels:
            occurrence += 1
            label = f"{path.stem}~{occurrence}"
        labels.append(label)
    return labels


def expand_shards(paths: Sequence[Path]) -> list[Path]:
    """Turn names with braces and wildcards, and folders, into a list of shards.

    Args:
        paths: files, folders (their *.tar), "shard-{0000..0009}.tar", "shard-*.tar".

    Returns:
        The shards, in the given order; those of a folder or a wildcard by name.

    Raises:
        UserError: a name stands for no file.
    """
    shards: list[Path] = []
    for path in paths:
        if path.is_file():
            shards.append(path)
            continue
        try:
            names = [str(path / "*.tar")] if path.is_dir() else expand_urls(str(path))
        except (ValueError, AssertionError) as error:
            raise UserError(
                f"{path}: not a list of shards ({error}): write for example shard-{{0000..0009}}.tar"
            ) from None
        for name in names:
            matches = glob.glob(name) if glob.has_magic(name) else [name]  # noqa: PTH207 - Path.glob takes no absolute ones
            found = [Path(match) for match in sorted(matches)]
            if not found or not found[0].is_file():
                which = f"{path}" if name == str(path) else f"{path}: {name}"
                raise UserError(f"{which}: no such shard: check the path and the braces")
            shards.extend(found)
    return shards
