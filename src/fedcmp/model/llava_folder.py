"""Parts of an existing LLaVA checkpoint folder: the tower or the LLM, without reading the other's weights.

Tensor names on disk, of the layouts that transformers writes and has written; `model.` in front of each may be there:

    vision_tower.[vision_model.]...     language_model.[model.]...     [language_model.]lm_head.weight
    multi_modal_projector.linear_{1,2}.{weight,bias}
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from fedcmp.errors import UserError, shortage
from fedcmp.model.folders import INDEX as INDEX
from fedcmp.model.locations import BUILDING, check_loaded, first_line, load

_VISION = re.compile(r"(?:model\.)?vision_tower\.(.+)")
_LANGUAGE = re.compile(r"(?:model\.)?language_model\.(?:model\.)?(?!lm_head)(.+)")
_HEAD = re.compile(r"(?:model\.)?(?:language_model\.)?(lm_head\..+)")


def is_llava(config: Any, location: str, key: str) -> bool:
    """Return whether a config is a Hugging Face LLaVA's.

    Raises:
        UserError: it is LLaVA's original layout, or it is on the hub: a part can be taken from a folder only.
    """
    if config.model_type != "llava":
        return False
    if not (Path(location) / "config.json").is_file():
        raise UserError(f"{key} = {location!r}: is a LLaVA checkpoint; download it and give its folder")
    content = json.loads((Path(location) / "config.json").read_text(encoding="utf-8"))
    if "text_config" not in content:
        raise UserError(
            f"{key} = {location!r}: a LLaVA checkpoint in LLaVA's original layout; give one in Hugging Face's layout "
            "(model.projector_from reads either)"
        )
    return True


def load_vision_half(location: str, key: str, *, dtype: torch.dtype) -> PreTrainedModel:
    """Return the vision tower of a LLaVA folder, on the CPU.

    Args:
        location: the folder.
        key: the recipe key, for errors.
        dtype: of the weights.

    Raises:
        UserError: no safetensors files, damaged ones, or weights that are missing or do not fit: names the first.
    """
    return _load_half(AutoModel, location, key, "vision_config", _vision_name, dtype)


def load_language_half(location: str, key: str, *, dtype: torch.dtype) -> PreTrainedModel:
    """Return the causal LM of a LLaVA folder, on the CPU; arguments and errors as of `load_vision_half`."""
    return _load_half(AutoModelForCausalLM, location, key, "text_config", _language_name, dtype)


def _vision_name(name: str) -> str | None:
    found = _VISION.fullmatch(name)
    return found and found[1]


def _language_name(name: str) -> str | None:
    if found := _HEAD.fullmatch(name):
        return found[1]
    found = _LANGUAGE.fullmatch(name)
    return found and f"model.{found[1]}"


def _load_half(
    factory: Any, location: str, key: str, section: str, own_name: Callable[[str], str | None], dtype: torch.dtype
) -> PreTrainedModel:
    config = getattr(load(AutoConfig, location, key), section)
    tensors = {}
    for name, shard in shards_by_tensor(Path(location), key).items():
        mine = own_name(name)
        if mine is not None:
            tensors[mine] = (shard, name)
    state = _read(tensors, key)
    with BUILDING, torch.device("meta"):
        skeleton = factory.from_config(config, trust_remote_code=False)
    kind = type(skeleton)
    if section == "text_config":  # LLaVA calls any LLM's parts `model` and `lm_head`
        head = _name_of(skeleton, skeleton.get_output_embeddings())
        own = {"model": kind.base_model_prefix, "lm_head": head}
        state = {own[name.partition(".")[0]] + "." + name.partition(".")[2]: t for name, t in state.items()}
    try:
        with BUILDING:
            model, found = kind.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # transformers raises anything
        if shortage(error) is not None:
            raise
        raise UserError(
            f"{key} = {location!r}: transformers cannot load its {section} ({first_line(error)})"
        ) from error
    check_loaded(model, found, f"{key} = {location!r}")
    loaded: PreTrainedModel = model
    return loaded


def _name_of(model: nn.Module, module: nn.Module) -> str:
    names = (name for name, other in model.named_modules() if other is module)
    return str(next(names))


def shards_by_tensor(folder: Path, key: str) -> dict[str, Path]:
    """Return tensor's name on disk -> the safetensors file that holds it; reads headers only.

    Args:
        folder: a checkpoint, in one file or sharded with an index.
        key: the recipe key or command-line option, for errors.

    Raises:
        UserError: no safetensors files, or an index or a file that is damaged.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / file for name, file in listed.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{index}: is not a readable index of shards ({error}); get the file again") from error
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
    if not found:
        raise UserError(f"{key} = {str(folder)!r}: holds no safetensors file; is it a LLaVA checkpoint's folder?")
    return found


def opened(path: Path) -> Any:
    """Open a safetensors file for reading.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: is not a readable safetensors file ({error})") from error


def _read(wanted: dict[str, tuple[Path, str]], key: str) -> dict[str, Tensor]:
    """Return own name -> tensor, each shard opened once."""
    state: dict[str, Tensor] = {}
    for path in sorted({shard for shard, _ in wanted.values()}):
        with opened(path) as file:
            there = set(file.keys())
            for mine, (shard, name) in wanted.items():
                if shard == path:
                    if name not in there:
                        raise UserError(f"{key}: {path} lacks {name}, which the index says it holds")
                    state[mine] = file.get_tensor(name)
    return state
