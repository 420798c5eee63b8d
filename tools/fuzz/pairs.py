"""Annotation records, tars and parquet files: what a run does with a source of pairs, from opening to each image."""

import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fedcmp.data.accounts import account_of
from fedcmp.data.images import decode_image
from fedcmp.data.pairs import OpenedPairs, PairFormat, open_pairs
from fedcmp.data.quality import BadPair, describe
from fedcmp.data.record_fields import CAPTIONS, IMAGES, OTHER_CAPTIONS, TURNS
from fedcmp.errors import UserError
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault, not_one_line

_PAIRS = 5
_MAX_PIXELS = 2**22
_NAMES = (*IMAGES, *CAPTIONS, *TURNS, *OTHER_CAPTIONS, "id", "group", "from", "role", "value", "content", "type")


def image_file(number: int, format: str = "PNG", size: tuple[int, int] = (6, 5), mode: str = "RGB") -> bytes:
    """Return a small noise image as a file; another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 4), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., :3]).convert(mode)
    image.info.pop("icc_profile", None)  # that of LAB holds the time at which it was made
    image.save(buffer, format)
    return buffer.getvalue()


def conversation(number: int) -> dict[str, object]:
    """Return a record as LLaVA-Pretrain has them."""
    turns = [
        {"from": "human", "value": "Describe it.\n<image>"},
        {"from": "gpt", "value": f"a red house, number {number}"},
    ]
    return {"id": f"{number:03}", "image": f"{number}.png", "conversations": turns}


def read_all(source: OpenedPairs) -> bool:
    """Do with a source what a run does; return whether every pair of it can be used.

    Raises:
        Fault: its account does not add up, keys occur twice, or what it says cannot be shown or written.
    """
    bad = list(source.rejected)
    keys: Counter[str] = Counter()
    for index in range(len(source)):
        try:
            place = source.locate(index)
            pair = source.pair(index)
            keys[pair.key] += 1
            json.dumps([pair.key, pair.caption, pair.group], ensure_ascii=False).encode()
            place.encode(errors="backslashreplace")
            if not pair.caption.strip() or "\n" in pair.key:
                raise Fault(f"{pair}: an empty caption, or a key of several lines")
            decode_image(source.read_image(index), max_pixels=_MAX_PIXELS)
        except BadPair as error:
            if problem := not_one_line(UserError(str(error)).args[0]):
                raise Fault(problem) from error
            bad.append(error)  # type: ignore[arg-type]  # counted only
    if keys and max(keys.values()) > 1:
        raise Fault(f"{keys.most_common(1)}: a key of several pairs")
    account = account_of(source)
    if account.read != len(source) + len(source.rejected) + sum(source.unused.values()):
        raise Fault(f"{account.line()}: does not add up")
    for rejected in source.rejected:
        if problem := not_one_line(UserError(f"{rejected.place}: {describe(rejected)}").args[0]):
            raise Fault(problem)
    source.fingerprint()
    return not bad


class _Pairs:
    """What the three kinds share: one file in a folder, opened as the format says."""

    refusals: tuple[type[Exception], ...] = ()
    format: PairFormat
    file: str

    def __init__(self, work: Path) -> None:
        self.folder = work / self.format
        self.folder.mkdir(parents=True)

    def feed(self, data: bytes) -> bool:
        """Write the file, open it, read everything."""
        path = self.folder / self.file
        path.write_bytes(data)
        return read_all(open_pairs(self.format, path))


class Records(_Pairs):
    """A JSON array or JSON lines, with images next to them."""

    name, format, file = "records", "llava", "pairs.json"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        for number in range(_PAIRS):
            (self.folder / f"{number}.png").write_bytes(image_file(number))

    def make(self, draw: random.Random) -> bytes:
        """Return a file of a few records in one of the forms that are read, damaged."""
        records: list[object] = [_record(draw, number) for number in range(_PAIRS)]
        if draw.random() < 0.8:
            records = damaged_tree(draw, records, _NAMES)
        texts = [json_text(record, draw) for record in records]
        text = "\n".join(texts) + "\n" if draw.random() < 0.4 else "[" + ",\n".join(texts) + "]"
        data = text.encode("utf-8", "surrogatepass")
        if draw.random() < 0.1:
            data = draw.choice((b"\xef\xbb\xbf" + data, text.encode("utf-16", "surrogatepass"), data + b"\0"))
        return damaged_bytes(draw, data) if draw.random() < 0.35 else data


def _record(draw: random.Random, number: int) -> dict[str, object]:
    image, caption = f"{number}.png", f"a red house, number {number}"
    parts = [{"type": "image", "image": image}, {"type": "text", "text": "Describe it."}]
    answer = [{"type": "text", "text": caption}]
    records: tuple[dict[str, object], ...] = (
        conversation(number),
        {"image": image, "caption": caption, "group": "houses"},
        {"file_name": image, "captions": [caption, "a house"]},
        {"id": number, "images": [image], "text": caption},
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]},
        {"image": {"path": image}, "sentences": [{"raw": caption}]},
        {"images": [{"path": image}], "texts": [{"user": "<image>", "assistant": caption}]},
    )
    return draw.choice(records)


class Tars(_Pairs):
    """A WebDataset shard."""

    name, format, file = "tars", "webdataset", "shard.tar"

    def make(self, draw: random.Random) -> bytes:
        """Return a shard of a few pairs, its members or its bytes damaged."""
        members: list[tuple[str, bytes]] = []
        for number in range(_PAIRS):
            base = draw.choice((f"{number:05}", f"scan_v1.1_{number}", f"a/b/{number}", f"{number}.image"))
            record = {"caption": f"a red house, number {number}", "group": "houses"}
            text = json_text(damaged_tree(draw, record, _NAMES) if draw.random() < 0.2 else record, draw)
            entries = {"png": image_file(number), "txt": b"a red house", "json": text.encode()}
            for ending in draw.sample(sorted(entries), draw.choice((2, 2, 3))):
                members.append((f"{base}.{ending}", entries[ending]))
        if draw.random() < 0.5:
            at = draw.randrange(len(members))
            members[at] = _hostile_member(draw, *members[at])
        data = _tar(members, draw)
        if draw.random() < 0.7:
            headers = [start for start in range(0, len(data), 512) if data[start + 257 : start + 262] == b"ustar"]
            if headers and draw.random() < 0.6:
                return _damaged_header(draw, data, draw.choice(headers))
            return damaged_bytes(draw, data)
        return data


def _hostile_member(draw: random.Random, name: str, content: bytes) -> tuple[str, bytes]:
    hostile = ("../../x.png", "/etc/passwd.png", "a\nb.png", "\x1b[31m.txt", ".png", "x" * 300 + ".png", "a..png", "0.")
    if draw.random() < 0.5:
        return draw.choice(hostile), content
    return name, draw.choice((b"", b"\0" * 600, b"\xff" * 20, b"{" * 5000, b"x" * (2**20 + 1), b"\xed\xa0\x80"))


def _tar(members: list[tuple[str, bytes]], draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    form = draw.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form if all(len(n) < 90 for n, _ in members) else 1) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if draw.random() < 0.03:
                info.type, info.linkname, info.size = draw.choice((b"1", b"2", b"3", b"5", b"6")), "/etc/passwd", 0
            tar.addfile(info, io.BytesIO(content) if info.size else None)
    return buffer.getvalue()


def _damaged_header(draw: random.Random, data: bytes, start: int) -> bytes:
    """Damage one field of a member's header, and make its checksum right again."""
    header = bytearray(data[start : start + 512])
    at, size = draw.choice(((0, 100), (124, 12), (124, 12), (156, 1), (157, 100), (345, 155), (100, 8)))
    hostile = (
        b"77777777777\0",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"-0000000001\0",
        b"\0" * 12,
        b"L",
        b"S",
        b"x",
        b"g",
    )
    new = draw.choice((*hostile, draw.randbytes(size)))[:size]
    header[at : at + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + 512 :]


class Tables(_Pairs):
    """A parquet file with images inside."""

    name, format, file = "parquet", "parquet", "pairs.parquet"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._whole = [_table(form) for form in range(6)]

    def make(self, draw: random.Random) -> bytes:
        """Return a table of a few rows, its bytes damaged, mostly those that say where everything is."""
        data = draw.choice(self._whole)
        if draw.random() < 0.5:
            return damaged_bytes(draw, data, tuple(self._whole))
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        damaged = damaged_bytes(draw, data[footer:-8])
        return data[:footer] + damaged + len(damaged).to_bytes(4, "little") + data[-4:]


def _table(form: int) -> bytes:
    images: list[object] = [{"bytes": image_file(number), "path": f"{number}.png"} for number in range(_PAIRS)]
    captions: list[object] = [f"a red house, number {number}" for number in range(_PAIRS)]
    columns = {
        0: {"image": images, "text": captions},
        1: {"jpg": [image_file(number, "JPEG") for number in range(_PAIRS)], "caption": captions, "key": captions},
        2: {"images": [[image] for image in images], "texts": [[{"user": "a", "assistant": c}] for c in captions]},
        3: {"image": images, "captions": [[c, c] for c in captions], "id": list(range(_PAIRS)), "group": captions},
        4: {"image": [None, *images[1:]], "conversations": [conversation(n)["conversations"] for n in range(_PAIRS)]},
        5: {"jpg": [None, image_file(1), *[image_file(n) for n in range(2, _PAIRS)]], "caption": captions,
            "status": ["failed_to_download", *["success"] * (_PAIRS - 1)]},
    }[form]  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=2, compression=("none", "snappy", "zstd")[form % 3])
    return buffer.getvalue()
