"""The members of a tar shard, and which of them make a pair.

    000017.jpg + 000017.txt            one name before the last dot; the name may hold dots ("scan_v1.1_00001.png")
    000017.image.jpg + 000017.caption.txt    one name before the fields, which are words

A shard's names are split at the last dot where that makes pairs of dotted names; else before their fields, at the first
dot where webdataset splits them or at a later one: so no image meets the caption of another whose name begins alike.
Members that are neither an image nor a caption, and fields beside a pair ("000017.seg.png"), are not read; they are
counted by their endings.
"""

import errno
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fedcmp.data.file_lists import check_is_here
from fedcmp.errors import UserError

IMAGES = frozenset(
    [
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "avifs"),
        *("jp2", "j2k", "jpc", "jpf", "jpx", "ppm", "pgm", "pbm", "pnm"),
    ]
)
TEXTS = frozenset(["txt", "caption", "cap", "text"])
UNREAD = frozenset(["heic", "heif", "jxl", "svg", "psd", "raw", "dng"])  # images that are not decoded here
_FIELD = re.compile(r"[A-Za-z_]+")  # between a key and an ending; what holds digits belongs to a key
_NUMBERED_FIELD = re.compile(r"[A-Za-z_]\w*")
END_BLOCK = bytes(512)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # first bytes of gzip, bzip2, xz, zstandard
_PREFERRED = {
    "image": ("", "image", "img", "picture"),
    "text": ("", "caption", "text", "txt"),
    "record": ("", "caption", "meta", "metadata"),
}


class Member(NamedTuple):
    """A member's content in its shard; 0 bytes stands for no member."""

    name: str = ""
    offset: int = 0
    size: int = 0


class _Split(NamedTuple):
    base: str
    middle: str  # between the key and the ending, where the name is split at its first dot
    kind: str
    member: Member


NO_MEMBER = Member()


@dataclass
class Sample:
    """The members that make a pair, or would if one were not missing."""

    base: str
    image: Member = NO_MEMBER
    text: Member = NO_MEMBER
    record: Member = NO_MEMBER

    @property
    def complete(self) -> bool:
        """Whether there is an image and something that holds a caption."""
        return bool(self.image.name and (self.text.name or self.record.name))

    @property
    def first(self) -> Member:
        """The member that the sample is known by."""
        return self.image if self.image.name else self.text if self.text.name else self.record


@dataclass
class Samples:
    """What the members of a shard make.

    Attributes:
        samples: in the order of their first members; not all are complete.
        doubled: base, name and reason of members of which there is one already.
        ignored: members that are not read, by reason.
        unread: base and name of images of a format that is not decoded.
    """

    samples: list[Sample] = field(default_factory=list)
    doubled: list[tuple[str, str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)


class Torn(Exception):  # noqa: N818 - states what was found
    """A tar that is cut off or damaged behind the members that were yielded."""


def regular_members(path: Path) -> Iterator[Member]:
    """Yield a shard's regular files with their places.

    Raises:
        UserError: not a tar at all, or it cannot be read.
        Torn: the tar is cut off or damaged here; what was yielded before is whole.
    """
    try:
        with path.open("rb") as file:
            for entry in _entries(path, file):
                if entry.isreg() and not entry.issparse():
                    yield Member(entry.name, entry.offset_data, entry.size)
                elif not entry.isdir():
                    yield Member(f"{entry.name}.link", entry.offset_data, 0)
    except (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError, RecursionError) as tear:
        raise Torn(str(tear) or type(tear).__name__) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the file's beginning
            raise Torn(f"leads to a place outside the file ({error.strerror})") from None
        raise UserError(f"{path}: the shard cannot be read: {error.strerror}") from None


def _entries(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    size, start = os.fstat(file.fileno()).st_size, file.read(len(END_BLOCK))
    file.seek(0)
    check_is_here(path, start)
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
            if entry.size < 0 or entry.offset_data + entry.size > size:  # a size below 0 would lead back
                raise tarfile.ReadError(f"cut off inside {entry.name}")
            yield entry
        file.seek(tar.offset)
        if file.read(len(END_BLOCK)) != END_BLOCK:  # tarfile takes a damaged header for the end
            raise tarfile.ReadError(f"cut off or damaged at byte {tar.offset:,}")


def samples_of(members: list[Member]) -> Samples:
    """Put a shard's members together; see the module's text."""
    found = Samples()
    read: list[_Split] = []
    for member in members:
        name = member.name.rpartition("/")[2]
        base, dot, ending = member.name.rpartition(".")
        kind = _kind(ending.lower())
        if name.startswith(".") or not dot or "/" in ending or kind is None:
            hidden, ending = name.startswith("."), ending.lower()
            named = bool(dot) and "/" not in ending
            found.ignored["hidden members" if hidden else f".{ending} members" if named else "other members"] += 1
            if ending in UNREAD:
                found.unread[base] = name
        else:
            read.append(_Split(base, "", kind, member))
    complete = _complete(read)
    dotted = any("." in base.rpartition("/")[2] for base in complete)
    placed: list[_Split] = []
    for split in read:
        if split.base not in complete:
            short = _before_fields(split.base)
            beside = short if dotted else _whole_before(split.base, complete)
            if beside in complete:  # a field beside a pair
                ending = split.member.name[len(beside) :].lower()
                found.ignored[f"{ending} members"] += 1
                continue
            if not dotted and short != split.base:
                split = split._replace(base=short, middle=split.base[len(short) + 1 :])
        placed.append(split)
    whole = _complete(placed)
    entries: dict[str, dict[str, list[_Split]]] = {}
    for split in placed:  # what makes no pair by the first dot either is known by its own name
        base = split.base if split.base in whole or not split.middle else f"{split.base}.{split.middle}"
        entries.setdefault(base, {}).setdefault(split.kind, []).append(split)
    found.samples = [_sample(base, kinds, found) for base, kinds in entries.items()]
    return found


def _complete(splits: list[_Split]) -> set[str]:
    """The names under which there are both an image and what may hold a caption."""
    kinds: dict[str, set[str]] = {}
    for split in splits:
        kinds.setdefault(split.base, set()).add(split.kind)
    complete = {base for base, there in kinds.items() if "image" in there and len(there) > 1}
    # "0017.seg.png" with "0017.seg.json", beside the pair 0017, is no pair of its own
    fields = {base for base in complete if "text" not in kinds[base] and _before_fields(base) != base}
    return {base for base in complete if base not in fields or _before_fields(base) not in complete}


def _sample(base: str, kinds: dict[str, list[_Split]], found: Samples) -> Sample:
    """Choose one member of each kind: the field that is named after what it holds, else the only one."""
    sample = Sample(base)
    for kind, splits in kinds.items():
        wanted = _PREFERRED[kind]
        ranks = [wanted.index(split.middle) if split.middle in wanted else len(wanted) for split in splits]
        best = [split.member for rank, split in zip(ranks, splits, strict=True) if rank == min(ranks)]
        setattr(sample, kind, best[0])
        reason = "several images" if kind == "image" else "several captions"
        found.doubled += [(base, member.name, reason) for member in best[1:]]
        for rank, split in zip(ranks, splits, strict=True):
            if rank > min(ranks):
                found.ignored[f".{split.middle}.{split.member.name.rpartition('.')[2].lower()} members"] += 1
    return sample


def _before_fields(base: str) -> str:
    """A name without the fields at its end, which are words: "0017.image", "v1.2_0017.image"."""
    folder, slash, name = base.rpartition("/")
    key, *parts = name.split(".")
    while parts and _FIELD.fullmatch(parts[-1]):
        parts.pop()
    return folder + slash + ".".join([key, *parts])


def _whole_before(base: str, complete: set[str]) -> str:
    """The pair that a name begins with, up to one of its dots; "" if it begins with none."""
    while "." in base.rpartition("/")[2]:
        base, _, part = base.rpartition(".")
        if not _NUMBERED_FIELD.fullmatch(part):
            return ""
        if base in complete:
            return base
    return ""


def _kind(ending: str) -> str | None:
    if ending in IMAGES:
        return "image"
    return "text" if ending in TEXTS else "record" if ending == "json" else None
