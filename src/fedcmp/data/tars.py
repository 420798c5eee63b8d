"""WebDataset tars: the image and the caption of a pair are members with one name (`tar_members`).

    000017.jpg + 000017.txt, or 000017.jpg + 000017.json with "caption", "text" or turns (and "group"); with both, .txt
    is the caption and .json gives the group only.

Each shard's headers are scanned once; afterwards images and captions are read by offset. Members of a pair need not
stand side by side. A torn shard's whole members are used; the tear itself is counted as one bad pair and named. An
image without a caption, a caption without an image, and a name that occurs twice in a shard (the first stays) are bad
pairs too. Keys are "shard/name", as most shards number their pairs alike; a second shard with the same file name
becomes "shard~2". Other members are counted and not read.

The fingerprint is a sha256 over the keys, the images' member names and bytes, and the captions' bytes: the same for
every copy of the shards, in whatever order a pair's members stand.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedcmp.data.accounts import reasons
from fedcmp.data.captions import clean_caption, clean_label
from fedcmp.data.contents import Digests, content_digests, digest_or_none, is_changed, table_path
from fedcmp.data.file_lists import file_labels
from fedcmp.data.quality import BadPair, Rejected
from fedcmp.data.reading import RandomReader
from fedcmp.data.record_fields import caption_of, group_of
from fedcmp.data.source import Pair
from fedcmp.data.tar_members import Member, Sample, Torn, regular_members, samples_of
from fedcmp.errors import UserError

MAX_TEXT_BYTES = 2**20  # of one caption or JSON member


class TarPairs:
    """A `PairSource` over WebDataset tar shards."""

    def __init__(self, shards: Sequence[Path], *, ignored: Counter[str] | None = None, contents: Path | None = None):
        """Scan the shards' headers and captions.

        Args:
            shards: uncompressed tar files, each once, at least one.
            ignored: files beside these that are not read, by reason.
            contents: folder of the tables of what images hold (`contents`).

        Raises:
            UserError: a shard is missing, named twice, or not a tar; or there is no pair in all of them.
        """
        self.shards = list(shards)
        self.name = self.shards[0].name + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
        self.rejected: list[Rejected] = []
        self.rejected_at = array("Q")  # pairs before each of them
        self.unused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter(ignored or {})
        self._shard = array("I")
        self._keys: list[str] = []
        self._image_name: list[str] = []
        self._places = array("Q")  # six a pair: offset and size of the image, of the .txt, of the .json
        self._reader = RandomReader()
        self._contents = contents
        self._digests: Digests | None = None
        if doubled := [path for path, count in Counter(self.shards).items() if count > 1]:
            raise UserError(f"{doubled[0]}: the shard is named twice: name each shard once")
        self._labels = file_labels(self.shards)
        digest = hashlib.sha256(b"webdataset")
        for number in range(len(self.shards)):
            self._scan(number, digest)
        self._scanned = digest.hexdigest()
        if not len(self):
            found = reasons(Counter(bad.reason for bad in self.rejected)) or "no members"
            raise UserError(
                f"{self.shards[0]}: no usable pairs ({found}): expected members such as 000017.jpg with 000017.txt or "
                "000017.json"
            )

    def __len__(self) -> int:
        return len(self._shard)

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group."""
        _, _, *texts = self._places[6 * index : 6 * index + 6]
        _, caption, group, _ = self._annotation(self.shards[self._shard[index]], *texts)
        return Pair(self._keys[index], caption, group)

    def read_image(self, index: int) -> bytes:
        """Read one image's member; see `PairSource`."""
        data = self._image(index)
        if is_changed(self._digests, index, data):
            raise BadPair("changed", f"{self.locate(index)}: other bytes than when the run began")
        return data

    def fingerprint(self, progress: Callable[[int, int], object] | None = None, *, first: int | None = None) -> str:
        """Return the sha256 over keys, images' names and bytes, and captions; of the first pairs the images' bytes."""
        count = len(self) if first is None else first
        if self._digests is None or len(self._digests) < count:
            table = table_path(self._contents, self._scanned, count, [path.absolute() for path in self.shards])
            counts = np.bincount(np.array(self._shard[:count]), minlength=len(self.shards))
            self._digests = content_digests(table, self.shards.__getitem__, counts, self._image_digest, progress)
        return hashlib.sha256(self._scanned.encode() + self._digests[:count].tobytes()).hexdigest()

    def locate(self, index: int) -> str:
        """Return "shard: member"."""
        return f"{self.shards[self._shard[index]].name}: {self._image_name[index]}"

    def _image(self, index: int) -> bytes:
        offset, size = self._places[6 * index : 6 * index + 2]
        return self._reader.read(self.shards[self._shard[index]], offset, size)

    def _image_digest(self, index: int) -> bytes:
        return digest_or_none(lambda: self._image(index))

    def _annotation(
        self, path: Path, text_offset: int, text_size: int, record_offset: int, record_size: int
    ) -> tuple[bytes, str, str | None, Counter[str]]:
        """Read a pair's caption members: their bytes, the caption, the group, and what else could be a caption."""
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
        cleaned, ignored = (clean_caption(caption), Counter[str]()) if text_size else caption_of(record)
        return text + b"\0" + record_bytes, cleaned, group_of(record), ignored

    def _scan(self, number: int, digest: "hashlib._Hash") -> None:
        """Index one shard's pairs, in the order in which their first members stand."""
        path, members, taken = self.shards[number], list[Member](), set[str]()
        try:
            for member in regular_members(path):
                members.append(member)  # those before a tear stay
        except Torn as tear:
            self._reject(path.name, path.name, "torn shard", str(tear))
        found = samples_of(members)
        self.ignored.update(found.ignored)
        for base, doubled, reason in found.doubled:
            self._reject(self._key(number, base), f"{path.name}: {doubled}", reason)
        for sample in found.samples:
            key = self._key(number, sample.base)
            place = f"{path.name}: {sample.first.name}"
            if not sample.complete:
                unread = found.unread.get(sample.base)
                detail = f"{unread}: images of this format are not read" if unread else ""
                self._reject(key, place, "no caption" if sample.image.name else "no image", detail)
                continue
            try:
                annotation, ignored = self._checked(path, sample)
            except BadPair as bad:
                self._reject(key, place, bad.reason, bad.detail)
                continue
            self.ignored.update(ignored)
            self._index(number, _free(key, taken), sample, annotation, digest)

    def _checked(self, path: Path, sample: Sample) -> tuple[bytes, Counter[str]]:
        text, record = sample.text, sample.record
        if text.name and not text.size:
            raise BadPair("empty caption")
        annotation, _, _, ignored = self._annotation(path, text.offset, text.size, record.offset, record.size)
        return annotation, ignored

    def _index(self, number: int, key: str, sample: Sample, annotation: bytes, digest: "hashlib._Hash") -> None:
        image, text, record = sample.image, sample.text, sample.record
        digest.update(f"{key}\0{image.name}\0{image.size}\0".encode("utf-8", "surrogateescape"))
        digest.update(len(annotation).to_bytes(8, "little") + annotation)
        self._shard.append(number)
        self._keys.append(key)
        self._image_name.append(image.name)
        self._places.extend((image.offset, image.size, text.offset, text.size, record.offset, record.size))

    def _key(self, shard: int, base: str) -> str:
        return clean_label(f"{self._labels[shard]}/{base}")

    def _reject(self, key: str, place: str, reason: str, detail: str = "") -> None:
        self.rejected.append(Rejected(key, place, reason, detail))
        self.rejected_at.append(len(self))


def _free(key: str, taken: set[str]) -> str:
    """Number a key that another name has become too, when characters that cannot be written were taken out."""
    free, occurrence = key, 1
    while free in taken:
        occurrence += 1
        free = f"{key}#{occurrence}"
    taken.add(free)
    return free
