"""Which columns of a parquet file hold what (`parquet`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedcmp.data.record_fields import CAPTIONS, OTHER_CAPTIONS, TURNS
from fedcmp.errors import UserError

IMAGES = ("image", "images", "jpg", "jpeg", "png", "webp", "img", "avif", "jp2", "gif", "bmp", "tif", "tiff", "picture")
TEXTS = (*CAPTIONS, *TURNS, *OTHER_CAPTIONS)
KEYS = ("id", "key", "__key__")


@dataclass(frozen=True)
class Columns:
    """Where a file has what; "" for what it has not.

    Attributes:
        image: the column of bytes, "image.bytes" inside a struct; one of lists by its own name.
        caption: of text, of lists of them, or of conversations.
        key: of text or whole numbers.
        group: of text or whole numbers.
        status: of a download by img2dataset; "success" where there is an image.
    """

    image: str
    caption: str
    key: str
    group: str
    status: str

    @property
    def texts(self) -> list[str]:
        """All but the image."""
        return [name for name in (self.caption, self.key, self.group, self.status) if name]


def find_columns(path: Path, schema: pa.Schema) -> Columns:
    """Find a file's columns by their names and types.

    Args:
        path: the file, for errors.
        schema: its columns.

    Raises:
        UserError: no image or no caption column, or one of another type; names the file and the column.
    """
    there = f"found {', '.join(schema.names) or 'no columns'}"

    def first(wanted: tuple[str, ...]) -> str:
        return next(
            (name for name in wanted if schema.get_field_index(name) >= 0), ""
        )  # -1 also where it is there twice

    image, caption, key, group = first(IMAGES), first(TEXTS), first(KEYS), first(("group",))
    if not image:
        raise UserError(f"{path}: no image column: expected {', '.join(IMAGES[:-1])} or {IMAGES[-1]}, {there}")
    if not caption:
        raise UserError(f"{path}: no caption column: expected {', '.join(TEXTS[:-1])} or {TEXTS[-1]}, {there}")
    leaf, held = image, schema.field(image).type
    listed = _is_list(held)
    if listed:
        held = held.value_type
    if pa.types.is_struct(held) and held.get_field_index("bytes") >= 0:
        leaf, held = f"{image}.bytes", held.field("bytes").type
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_binary_view(held)):
        raise UserError(
            f"{path}: column {leaf} is {held}: expected the images themselves, as binary or struct<bytes, path>"
        )
    if not _holds_captions(schema.field(caption).type):
        raise UserError(
            f"{path}: column {caption} is {schema.field(caption).type}: expected text, a list of it, or turns"
        )
    for name in (key, group):
        if name and not (_is_text(schema.field(name).type) or pa.types.is_integer(schema.field(name).type)):
            raise UserError(f"{path}: column {name} is {schema.field(name).type}: expected text or whole numbers")
    downloaded = bool(first(("error_message", "url"))) and first(("status",)) and _is_text(schema.field("status").type)
    return Columns(image if listed else leaf, caption, key, group, "status" if downloaded else "")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _holds_captions(kind: Any) -> bool:
    """Whether a column's type is text, or a list of texts or of structs (turns, or captions with their raw text)."""
    inner = kind.value_type if _is_list(kind) else kind
    return _is_text(inner) or (_is_list(kind) and bool(pa.types.is_struct(inner)))
