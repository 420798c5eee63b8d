"""Folders of frozen parts, looked at before anything is loaded: torch and transformers are not needed for it.

What is checked takes milliseconds, whatever the model's size: config.json is JSON, every shard that an index names is
there and whole (a safetensors header says where its last tensor ends), nothing is a pointer that git-lfs left, and
nothing asks for program code from elsewhere.
"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from fedcmp.errors import UserError

Part = Literal["vision", "language"]
EMBEDDED = "world"
INDEX = "model.safetensors.index.json"
_WEIGHTS = ("model.safetensors", INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")  # as transformers looks
_POINTER = b"version https://git-lfs"
_PARTS: dict[Part, Sequence[str]] = {"vision": ("vision_tower",), "language": ("language_model", "lm_head")}
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def resolve(name: str, part: Part, key: str) -> str:
    """Return the folder or hub name to hand to transformers.

    Args:
        name: "world", a folder, or a hub name.
        part: which of the world's frozen parts "world" stands for.
        key: the recipe key, for the error.

    Raises:
        UserError: a path that does not exist, or a folder with a damaged or missing file.
    """
    if name == EMBEDDED:
        return str(resources.files("fedcmp.world") / "weights" / part)
    path = Path(name).expanduser()
    if path.is_dir():
        check_folder(path, f"{key} = {name!r}", part)
        return str(path)
    if path.is_file():
        raise UserError(f"{key} = {name!r}: is a file; give the folder that save_pretrained wrote")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"{key} = {name!r}: no such folder; give 'world', a folder or a hub name such as 'owner/name'")
    return name


def check_folder(folder: Path, place: str, part: Part | None = None) -> None:
    """Refuse a folder whose files cannot be those of a model.

    Args:
        folder: a checkpoint's.
        place: the recipe key and its value, for errors.
        part: what is taken from a LLaVA's folder; shards with the other part alone need not be there.

    Raises:
        UserError: names the file.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{place}: the folder holds no config.json; give a folder saved by save_pretrained")
    key = place.partition(" = ")[0]
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix not in (".safetensors", ".bin"):
            _check_no_pointer(file, key)
    content = _read_object(folder / "config.json")
    if (code := _foreign_code(content)) is not None:
        raise UserError(
            f"{place}: config.json asks for program code from {code!r}, which is never loaded; remove "
            "attn_implementation from it"
        )
    first = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if first is not None and first.endswith(".index.json"):
        _check_index(folder / first, key, _PARTS[part] if part and content.get("model_type") == "llava" else ("",))
    elif first is not None:
        _check_file(folder / first, key)


def check_weights(folder: Path, place: str) -> None:
    """Refuse a folder without weights; arguments and errors as of `check_folder`."""
    if not any((folder / name).is_file() for name in _WEIGHTS) and not any(folder.glob("*.safetensors")):
        raise UserError(f"{place}: the folder holds no weights ({_WEIGHTS[0]} or shards with {INDEX})")


def _check_index(index: Path, key: str, wanted: Sequence[str]) -> None:
    """Check the shards that hold a tensor in whose name one of `wanted` stands."""
    listed = _read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(file, str) for file in listed.values()):
        raise UserError(f"{index}: names no shards (weight_map); get the file again")
    shards: dict[str, set[str]] = {}
    for tensor, file in listed.items():
        if any(name in tensor for name in wanted):
            shards.setdefault(file, set()).add(tensor)
    missing = sorted(file for file in shards if not (index.parent / file).is_file())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{index.parent}: {missing[0]}{more} of {len(shards)} shards missing, which {index.name} names; download "
            "the whole model"
        )
    for file, tensors in sorted(shards.items()):
        if Path(file).name != file:
            raise UserError(f"{index}: names {file!r}, which is not in its folder; get the whole model again")
        there = _check_file(index.parent / file, key)
        if there is not None and (lacking := sorted(tensors - there)):
            raise UserError(
                f"{index.parent / file}: lacks {lacking[0]}, which {index.name} says it holds; get the file again"
            )


def _check_file(path: Path, key: str) -> set[str] | None:
    """Check one file of weights; return its tensors' names, None for a pickle, which is not opened for it."""
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; get the file again")
    _check_no_pointer(path, key)
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is cut off")
            header = json.loads(file.read(length))
        tensors = {name: row["data_offsets"] for name, row in header.items() if name != "__metadata__"}
        end = 8 + length + max((int(stop) for _, stop in tensors.values()), default=0)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is not a readable safetensors file ({error}); get the file again") from error
    if end != size:
        raise UserError(f"{path}: holds {size:,} bytes where its header says {end:,}; get the file again")
    return set(tensors)


def _check_no_pointer(path: Path, key: str) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start == _POINTER:
        raise UserError(f"{key}: {path}: holds a git-lfs pointer, not the model: run `git lfs pull` there")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}); get the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__} instead of an object; get the file again")
    return content


def _foreign_code(content: Any) -> str | None:
    """Return the hub's name of compiled code that a config asks transformers to fetch and run, if it does."""
    if not isinstance(content, dict):
        return None
    for key, value in content.items():
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")):
            for choice in value.values() if isinstance(value, dict) else [value]:
                if isinstance(choice, str) and "/" in choice:
                    return choice
        elif (found := _foreign_code(value)) is not None:
            return found
    return None
