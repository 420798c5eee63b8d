"""Which files and which of their columns hold the pairs of a parquet collection (`parquet`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedcmp.data.tars import expand_shards
from fedcmp.errors import UserError

PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img")
CAPTIONS = ("caption", "text")
KEYS = ("id", "key", "__key__")


@dataclass(frozen=True)
class Columns:
    """Where a file has what; "" for what it has not.

    Attributes:
        picture: the column of bytes, "image.bytes" inside a struct.
        caption: of text.
        key: of text or whole numbers.
        group: of text or whole numbers.
        status: of a download by img2dataset; "success" where there is a picture.
    """

    picture: str
    caption: str
    key: str
    group: str
    status: str

    @property
    def texts(self) -> list[str]:
        """All but the picture."""
        return [name for name in (self.caption, self.key, self.group, self.status) if name]


def find_columns(path: Path, schema: pa.Schema) -> Columns:
    """Find a file's columns by their names and types.

    Args:
        path: the file, for errors.
        schema: its columns.

    Raises:
        UserError: no picture or no caption column, or one of another type; names the file and the column.
    """
    there = f"found {', '.join(schema.names) or 'no columns'}"

    def first(wanted: tuple[str, ...]) -> str:
        return next(
            (name for name in wanted if schema.get_field_index(name) >= 0), ""
        )  # -1 also where it is there twice

    picture, caption, key, group = first(PICTURES), first(CAPTIONS), first(KEYS), first(("group",))
    if not picture:
        raise UserError(f"{path}: no picture column: expected {', '.join(PICTURES[:-1])} or {PICTURES[-1]}, {there}")
    if not caption:
        raise UserError(f"{path}: no caption column: expected {' or '.join(CAPTIONS)}, {there}")
    leaf, held = picture, schema.field(picture).type
    if pa.types.is_struct(held) and held.get_field_index("bytes") >= 0:
        leaf, held = f"{picture}.bytes", held.field("bytes").type
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_binary_view(held)):
        raise UserError(
            f"{path}: column {leaf} is {held}: expected the pictures themselves, as binary or struct<bytes, path>"
        )
    if not _is_text(schema.field(caption).type):
        raise UserError(f"{path}: column {caption} is {schema.field(caption).type}: expected text")
    for name in (key, group):
        if name and not (_is_text(schema.field(name).type) or pa.types.is_integer(schema.field(name).type)):
            raise UserError(f"{path}: column {name} is {schema.field(name).type}: expected text or whole numbers")
    downloaded = bool(first(("error_message",))) and first(("status",)) and _is_text(schema.field("status").type)
    return Columns(leaf, caption, key, group, "status" if downloaded else "")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def file_labels(files: Sequence[Path]) -> list[str]:
    """Return the files' names without suffix, later ones of the same name numbered: "train", "train~2"."""
    labels: dict[str, None] = {}
    for path in files:
        label, occurrence = path.stem, 1
        while label in labels:
            occurrence += 1
            label = f"{path.stem}~{occurrence}"
        labels[label] = None
    return list(labels)


def expand_parquet(paths: Sequence[Path]) -> list[Path]:
    """Turn names with braces and wildcards, and folders, into a list of files.

    Args:
        paths: files, folders (their *.parquet, or those below where a folder has none itself), "train-*.parquet".

    Returns:
        The files, in the given order; those of a folder or a wildcard by name.

    Raises:
        UserError: a name stands for no file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.parquet")) or sorted(path.rglob("*.parquet"))
            if not found:
                raise UserError(f"{path}: no parquet files in this folder: check the path")
            files += found
        else:
            files += expand_shards([path])
    return files
