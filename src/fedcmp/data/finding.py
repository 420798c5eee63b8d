"""Find out what pairs a folder holds: one collection, or one per organisation in its subfolders.

    pairs.json + images/            one collection in LLaVA's format; JSON lines too
    00000.tar ..., *.parquet        one collection of shards, also below data/ or train/
    hospital-a/, hospital-b/ ...    one collection per subfolder, each laid out as above

Files of a test or validation split are left out where there are others, and named.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fedcmp.data.json_records import json_records
from fedcmp.data.pairs import PairFormat
from fedcmp.errors import UserError
from fedcmp.extras import require

_HELD_OUT = re.compile(r"(?<![a-z])(test|testing|val|valid|validation|eval|evaluation|dev)(?![a-z])")
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])")
_ANNOTATIONS, _PACKED = (".json", ".jsonl", ".ndjson"), (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_DEPTH = 3  # folders below the one that is named
_SNIFFED = 200  # records of an annotation file
_SUBFOLDERS = 200  # that may hold the images of an annotation file


@dataclass(frozen=True)
class FoundPairs:
    """Describe one collection of pairs.

    Attributes:
        folder: where it was found.
        format: of its files.
        files: annotation files, shards or parquet files.
        images: the folder that LLaVA records' paths start from.
        unused: files and folders that are left out, each with the reason.
    """

    folder: Path
    format: PairFormat
    files: tuple[Path, ...]
    images: Path | None = None
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundData:
    """Describe what a folder holds.

    Attributes:
        clients: organisation -> its pairs; one entry named "" where the folder is one collection.
        unused: files and folders that are left out, each with the reason.
    """

    clients: dict[str, FoundPairs]
    unused: tuple[str, ...] = ()

    @property
    def format(self) -> PairFormat:
        """Return the format of all of them."""
        return next(iter(self.clients.values())).format


def find_data(folder: Path) -> FoundData:
    """Look for pairs in a folder.

    Raises:
        UserError: no such folder, no pairs in it, pairs in several formats, or images that cannot be found.
    """
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{folder}: is a file; name the folder that it is in: {folder.parent}")
        raise UserError(f"{folder}: no such folder; name the folder that holds your images and captions")
    try:
        found = _find(folder, _DEPTH)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if found is None:
        raise UserError(f"{folder}: {_why_nothing(folder)}")
    formats = {one.format: name for name, one in found.clients.items()}
    if len(formats) > 1:
        told = ", ".join(f"{name} {format}" for format, name in formats.items())
        raise UserError(f"{folder}: the subfolders hold pairs in several formats ({told}); a run reads one format")
    return found


def _find(folder: Path, depth: int) -> FoundData | None:
    here = _pairs_in(folder)
    if here is not None:
        return FoundData({"": here}, here.unused)
    if depth == 0:
        return None
    below = {sub.name: found for sub in _subfolders(folder) if (found := _find(sub, depth - 1)) is not None}
    empty = tuple(f"{sub.name}/: no pairs found" for sub in _subfolders(folder) if sub.name not in below)
    splits = [name for name in below if _HELD_OUT.search(name.lower())]
    trained = [name for name in below if name not in splits]
    if splits and trained and all(_TRAIN.search(name.lower()) for name in trained):
        empty += tuple(f"{name}/: a test or validation split" for name in splits)
        below = {name: below[name] for name in trained}
    if not below:
        return None
    if len(below) == 1:
        (found,) = below.values()
        return FoundData(found.clients, (*found.unused, *empty))
    nested = [name for name, found in below.items() if len(found.clients) > 1]
    if nested:
        raise UserError(
            f"{folder / nested[0]}: holds several collections itself, next to others in {folder}; name one of the two "
            "folders, or arrange one subfolder per organisation"
        )
    clients = {name: next(iter(found.clients.values())) for name, found in below.items()}
    left = (f"{name}/{reason}" for name, found in below.items() for reason in found.unused)
    return FoundData(clients, (*left, *empty))


def _pairs_in(folder: Path) -> FoundPairs | None:
    """Return the pairs that lie in the folder itself."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    paths = {path: named for path in files if path.suffix.lower() in _ANNOTATIONS and (named := _named_images(path))}
    tars = [path for path in files if path.suffix.lower() == ".tar"]
    tables = [path for path in files if path.suffix.lower() == ".parquet" and _has_images(path)]
    found: dict[PairFormat, list[Path]] = {"llava": list(paths), "webdataset": tars, "parquet": tables}
    there = {format: kept for format, kept in found.items() if kept}
    if len(there) > 1:
        told = ", ".join(f"{format} ({kept[0].name})" for format, kept in there.items())
        raise UserError(f"{folder}: holds pairs in several formats: {told}; move all but one to another folder")
    for format, kept in there.items():
        chosen, unused = _without_test_splits(kept)
        images = _images_folder(folder, {path: paths[path] for path in chosen}) if format == "llava" else None
        return FoundPairs(folder, format, tuple(chosen), images, tuple(unused))
    return None


def _without_test_splits(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    held_out = [path for path in files if _HELD_OUT.search(path.stem.lower())]
    others = [path for path in files if path not in held_out]
    if not others:
        return held_out, []
    return others, [f"{path.name}: a test or validation split" for path in held_out]


def _named_images(path: Path) -> list[str]:
    """Return the image paths of an annotation file's first records; none where it holds no pairs."""
    try:
        records = [record for _, _, _, record in islice(json_records(path), _SNIFFED)]
    except UserError:  # an object, or an array that is cut off: opening it says so, if anything names it
        records = []
    fields = ("image", "images", "file_name")
    named = [
        next((record[key] for key in fields if record.get(key)), None) for record in records if isinstance(record, dict)
    ]
    first = (value[0] if isinstance(value, list) and value else value for value in named)
    return [value.replace("\\", "/") for value in first if isinstance(value, str) and value]


def _images_folder(folder: Path, annotated: dict[Path, list[str]]) -> Path:
    """Return the folder in which most of the records' images are."""
    near = [folder, *_subfolders(folder), folder.parent, *_subfolders(folder.parent)]
    candidates = list(dict.fromkeys(near))[:_SUBFOLDERS]
    named = [name for names in annotated.values() for name in names]
    hits = {place: sum((place / name).is_file() for name in named) for place in candidates}
    best = max(candidates, key=lambda place: hits[place])
    if not hits[best]:
        raise UserError(
            f"{next(iter(annotated))}: its first image, {named[0]}, is neither in {folder} nor in a folder next to it; "
            f"put the images into {folder / 'images'}"
        )
    return best


def _has_images(path: Path) -> bool:
    """Return whether a parquet file holds images; img2dataset's lists of what was downloaded do not.

    A file that cannot be read counts as one that does: it is refused where it is opened, not left out in silence.
    """
    require("pyarrow", "parquet", "parquet files")
    from fedcmp.data.parquet_columns import find_columns
    from fedcmp.data.parquet_process import PARQUET, ParquetError

    try:
        schema, _ = PARQUET.describe(path, [])
    except ParquetError:
        return True
    try:
        find_columns(path, schema)
    except UserError:
        return False
    return True


def _subfolders(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(hidden)]


def _why_nothing(folder: Path) -> str:
    """Return what to do about a folder without pairs, by what else lies in it."""
    names = list(islice(_names(folder, _DEPTH), 20_000))
    packed = next((name for name in names if name.lower().endswith(_PACKED)), None)
    if packed is not None:
        return f"{packed} is packed: unpack it first (shards must be uncompressed .tar files)"
    if any(name.lower().endswith(_IMAGES) for name in names):
        if any(name.endswith(".txt") for name in names):
            return (
                "holds images with .txt captions: pack each organisation's into a tar in its own folder, for example "
                "`tar --sort=name -cf pairs.tar -C FOLDER .`"
            )
        return (
            "holds images but no captions: write a pairs.json of "
            '[{"image": "a.jpg", "caption": "a red house"}, ...] next to them'
        )
    return "holds no pairs: expected a JSON or JSONL file with images, .tar shards, or parquet files (docs/guide.md)"


def _names(folder: Path, depth: int) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path.name
        elif depth and path.is_dir() and not path.name.startswith("."):
            yield from _names(path, depth - 1)
