"""Where frozen parts come from: the embedded world's own, a folder, or a hub name; and what identifies them."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fedcmp.errors import UserError
from fedcmp.model import hub

EMBEDDED = "world"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve(name: str, part: Literal["vision", "language"], key: str) -> str:
    """The folder or hub name to hand to transformers.

    Args:
        name: "world", a folder, or a hub name.
        part: which of the world's frozen parts "world" stands for.
        key: the recipe key, for the error.

    Raises:
        UserError: a path that does not exist.
    """
    if name == EMBEDDED:
        return str(resources.files("fedcmp.world") / "weights" / part)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                f"{key} = {name!r}: the folder holds no config.json; give a folder saved by save_pretrained"
            )
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"{key} = {name!r}: no such folder; give 'world', a folder or a hub name such as 'owner/name'")
    return name


def load(factory: Any, name: str, key: str, **options: Any) -> Any:
    """`factory.from_pretrained(name, **options)`, its failures told in one line.

    Where the hub does not answer (hub.py), a hub name stands for what the hub's cache holds of it.

    Args:
        factory: a class of transformers; for models use `load_model`.
        name: a folder or hub name, as `resolve` gives it.
        key: the recipe key, for the error.
        options: further arguments of from_pretrained.

    Raises:
        UserError: whatever transformers could not load: files missing, damaged, or in need of another library; a hub
            name that is not in the cache while the hub does not answer.
    """
    away, place = None if Path(name).is_dir() else hub.unreachable(name), name
    if away is not None:
        cached = hub.cached_folder(name)
        if cached is None:
            raise UserError(f"{key} = {name!r}: not in the hub's cache, and {away}; {hub.MEND}")
        place = str(cached)  # not local_files_only: transformers looks for adapters on the hub all the same
    try:
        return factory.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if away is not None:
            raise UserError(
                f"{key} = {name!r}: cannot be loaded from the hub's cache ({reason}), and {away}; {hub.MEND}"
            ) from error
        raise UserError(f"{key} = {name!r}: transformers cannot load it ({reason})") from error


def load_model(factory: Any, name: str, key: str, *, dtype: torch.dtype) -> Any:
    """A model with all of its weights; transformers alone would fill in random ones where a checkpoint lacks some.

    Args:
        factory: AutoModel, AutoModelForCausalLM or the like.
        name: a folder or hub name, as `resolve` gives it.
        key: the recipe key, for the error.
        dtype: of the weights.

    Raises:
        UserError: it cannot be loaded, or the checkpoint lacks weights or has them in other shapes: names the first.
    """
    model, found = load(factory, name, key, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True)
    check_loaded(model, found, f"{key} = {name!r}")
    return model


def check_loaded(model: nn.Module, found: dict[str, Any], place: str) -> None:
    """Refuse a model whose checkpoint lacked weights or had them in other shapes.

    Args:
        model: as loaded.
        found: the loading info of transformers.
        place: what was loaded, for the error.

    Raises:
        UserError: names the first such weight.
    """
    misshapen = sorted(found["mismatched_keys"])
    if misshapen:
        first, there, wanted = misshapen[0]
        raise UserError(
            f"{place}: {len(misshapen)} weights do not fit its config.json, first {first}: "
            f"{tuple(there)} in the checkpoint, {tuple(wanted)} expected; the two files are not of one model"
        )
    missing = sorted(_needed(model) & set(found["missing_keys"]))
    if missing:
        more = f", {missing[1]} and {len(missing) - 2} more" if len(missing) > 2 else ""
        raise UserError(
            f"{place}: the checkpoint lacks {len(missing)} weights of a {type(model).__name__}: "
            f"{missing[0]}{more}; get the whole checkpoint"
        )


def _needed(model: nn.Module) -> set[str]:
    """Names that a checkpoint must hold: each tied weight once; position_ids are counted, not learned."""
    parameters = {name for name, _ in model.named_parameters()}
    return parameters | {name for name, _ in model.named_buffers() if not name.endswith("position_ids")}


def dtype_of(name: str) -> torch.dtype:
    """'float32', 'bfloat16' or 'float16' as a torch dtype."""
    return _DTYPES[name]


def device_of(name: str, *, key: str = "model.device") -> torch.device:
    """'auto' is the first GPU if there is one, else the CPU; `key` names the setting in errors.

    Raises:
        UserError: a device that this torch does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key} = {name!r}: not usable here ({reason}); use 'auto' or 'cpu'") from error
    return device


def fingerprint(state: dict[str, Tensor], *descriptions: Any) -> str:
    """sha256 over named tensors and JSON-like descriptions: equal weights and settings give equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    for description in descriptions:
        digest.update(json.dumps(description, sort_keys=True, default=str).encode())
    return digest.hexdigest()
