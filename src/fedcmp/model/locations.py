"""Where frozen parts come from: the embedded world's own, a folder, or a hub name; and what identifies them."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedcmp.errors import UserError, shortage
from fedcmp.model import hub
from fedcmp.model.folders import EMBEDDED as EMBEDDED
from fedcmp.model.folders import check_folder
from fedcmp.model.folders import resolve as resolve

# While transformers builds a model, it replaces methods and defaults of torch and of its own classes and puts them back
# afterwards: two threads that build models at once can leave them replaced, and every later model without tied weights.
BUILDING = threading.RLock()

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(factory: Any, name: str, key: str, **options: Any) -> Any:
    """Return `factory.from_pretrained(name, **options)`; its failures are reported in one line.

    Where the hub does not answer (hub.py), a hub name stands for what the hub's cache holds of it. Program code that
    comes with a model is never run, and nobody is asked whether it may be. Safe to call from several threads.

    Args:
        factory: a class of transformers; for models use `load_model`.
        name: a folder or hub name, as `resolve` gives it.
        key: the recipe key, for the error.
        options: further arguments of from_pretrained.

    Raises:
        UserError: whatever transformers could not load: files missing, damaged, in need of another library or of code
            of their own; a hub name that is not in the cache while the hub does not answer.
    """
    away, place = None if Path(name).is_dir() else hub.unreachable(name), name
    if away is not None:
        cached = hub.cached_folder(name)
        if cached is None:
            raise UserError(f"{key} = {name!r}: not in the hub's cache, and {away}; {hub.MEND}")
        check_folder(cached, f"{key} = {name!r}")
        place = str(cached)  # not local_files_only: transformers looks for adapters on the hub all the same
    try:
        with BUILDING:
            return factory.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:  # transformers and tokenizers raise anything, a bare Exception too
        if shortage(error) is not None:
            raise
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            raise UserError(
                f"{key} = {name!r}: needs program code of its own (auto_map in its files), and a model's own code is "
                "never run; use a model whose architecture transformers itself has"
            ) from error
        if away is not None:
            raise UserError(
                f"{key} = {name!r}: cannot be loaded from the hub's cache ({reason}), and {away}; {hub.MEND}"
            ) from error
        raise UserError(f"{key} = {name!r}: transformers cannot load it ({reason})") from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or what it is called."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_model(factory: Any, name: str, key: str, *, dtype: torch.dtype) -> Any:
    """Return a model with all of its weights; transformers alone fills in random ones where a checkpoint lacks some.

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
    """Return the names that a checkpoint must hold: each tied weight once; position_ids are counted, not learned."""
    parameters = {name for name, _ in model.named_parameters()}
    return parameters | {name for name, _ in model.named_buffers() if not name.endswith("position_ids")}


def dtype_of(name: str) -> torch.dtype:
    """Return 'float32', 'bfloat16' or 'float16' as a torch dtype."""
    return _DTYPES[name]


def device_of(name: str, *, key: str = "model.device") -> torch.device:
    """Return a device; 'auto' is the first GPU if there is one, else the CPU. `key` names the setting in errors.

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
    """Return a sha256 over named tensors and JSON-like descriptions: equal for equal weights and settings."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    for description in descriptions:
        digest.update(json.dumps(description, sort_keys=True, default=str).encode())
    return digest.hexdigest()
