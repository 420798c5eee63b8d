"""A collection as a user names it: files in one of the formats, opened later, and again by whoever reads the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedcmp.data.accounts import account_of
from fedcmp.data.contents import CONTENTS, user_cache_folder
from fedcmp.data.pairs import PairFormat, PairSource, open_pairs
from fedcmp.errors import UserError

_ENDINGS: dict[str, PairFormat] = {
    ".tar": "webdataset",
    ".json": "llava",
    ".jsonl": "llava",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class PairFiles:
    """Where pairs are.

    Attributes:
        format: of the files.
        pairs: the files, folders or wildcards, absolute.
        images: the folder of LLaVA's pictures, absolute; None stands for the first file's own folder.
    """

    format: PairFormat
    pairs: tuple[Path, ...]
    images: Path | None = None

    def open(self) -> PairSource:
        """Index the pairs.

        Raises:
            UserError: see `data.pairs.open_pairs`.
        """
        return open_pairs(self.format, self.pairs, self.images, contents=user_cache_folder() / CONTENTS)

    def describe(self, source: PairSource) -> dict[str, Any]:
        """Return what the index of embeddings says of the opened pairs: name, account, and how to open them again."""
        account = account_of(source)
        return {
            "name": source.name,
            "fingerprint": source.fingerprint(),
            "unused": dict(account.unused),
            "ignored": dict(account.ignored),
            "format": self.format,
            "pairs": [str(path) for path in self.pairs],
            "images": None if self.images is None else str(self.images),
        }


def find_pairs(
    paths: Sequence[Path], *, format: PairFormat | Literal["auto"] = "auto", images: Path | None = None
) -> PairFiles:
    """Find out what a user means by some files and folders.

    Args:
        paths: JSON files, tars, parquet files, names with wildcards, folders of tars or of parquet files.
        format: "auto": by the names' endings and by what the folders hold.
        images: the folder that the pictures' paths in LLaVA's JSON start from.

    Raises:
        UserError: no paths, paths of several formats, or one whose format cannot be told; a folder of pictures for
            files that hold their own.
    """
    if not paths:
        raise UserError("no pairs are named: give JSON files, tars or parquet files")
    absolute = tuple(path.expanduser().absolute() for path in paths)
    if format == "auto":
        found = {path: _format_of(path) for path in absolute}
        format = found[absolute[0]]
        if other := next((path for path, kind in found.items() if kind != format), None):
            raise UserError(f"{other}: is {found[other]}, but {absolute[0]} is {format}: embed one format at a time")
    if images is not None and format != "llava":
        raise UserError(f"--images {images}: {format} files hold their pictures; leave --images out")
    return PairFiles(format, absolute, None if images is None else images.expanduser().absolute())


def _format_of(path: Path) -> PairFormat:
    if path.is_dir():
        for ending in (".tar", ".parquet"):
            if next(path.rglob(f"*{ending}"), None):
                return _ENDINGS[ending]
        if next(path.rglob("metadata.jsonl"), None):
            return "llava"
        raise UserError(f"{path}: holds neither tars nor parquet files: name the JSON file, or give --format")
    if path.suffix.lower() not in _ENDINGS:
        raise UserError(f"{path}: its format cannot be told by its name: give --format llava, webdataset or parquet")
    return _ENDINGS[path.suffix.lower()]
