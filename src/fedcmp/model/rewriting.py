"""Export alongside an existing LLaVA folder: only the shard that holds the projector is written anew.

Every other weight file is a hard link to the base's (a copy, where the disk cannot link): the LLM is not loaded.
Tokenizer, processor and generation settings are written anew, for they hold the format that was trained.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fedcmp.model.export import check_export_folder, check_llava_holds, generation_config, llava_processor, unfinished
from fedcmp.model.llava_folder import INDEX, opened, shards_by_tensor
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import activation_of, huggingface_name, llava_projector_tensors
from fedcmp.model.prompts import IMAGE_TOKEN
from fedcmp.model.text_format import KEY, TextFormat
from fedcmp.model.vision import VisionEncoder

# superseded by what the processor writes, or another copy of the weights
_NOT_TAKEN = ("chat_template.json", "preprocessor_config.json", "README.md", "mm_projector.bin")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf")


def base_folder(encoder: VisionEncoder, projector: Projector, text: TextFormat) -> Path | None:
    """Return the LLaVA folder that both frozen parts are from, if it has a place for the trained projector.

    That is, its config.json holds for the trained model as it is, and its shards hold a projector.
    """
    if not (encoder.in_llava and text.in_llava and Path(encoder.location).samefile(text.location)):
        return None
    folder = Path(text.location)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    token = text.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    trained = {
        "vision_feature_layer": encoder.layer,
        "vision_feature_select_strategy": encoder.strategy,
        "projector_hidden_act": activation_of(projector),
        "image_token_index": token,
        "multimodal_projector_bias": True,
    }
    usual = {
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "image_token_index": 32000,
        "multimodal_projector_bias": True,
    }
    if "image_token_id" in config:
        config["image_token_index"] = config["image_token_id"]
    same = all(config.get(key, usual[key]) == value for key, value in trained.items())
    wanted = sorted(llava_projector_tensors(projector))
    return folder if same and sorted(_replaced(shards_by_tensor(folder, KEY)).values()) == wanted else None


def _replaced(names: Iterable[str]) -> dict[str, str]:
    """Return the projector's tensors of a checkpoint -> their names in transformers' module."""
    return {name: own for name in names if (own := huggingface_name(name)) is not None}


def rewrite_projector(
    folder: Path,
    base: Path,
    encoder: VisionEncoder,
    projector: Projector,
    text: TextFormat,
    *,
    dtype: torch.dtype,
    card: str | None = None,
) -> Path:
    """Write a LLaVA folder that shares all weights but the projector's with another, whole or not at all.

    Args:
        folder: created; must not exist yet, or be empty.
        base: from `base_folder`.
        encoder: of the base.
        projector: trained.
        text: the base's tokenizer with the trained format.
        dtype: of the projector's tensors; the others keep theirs.
        card: the text of README.md.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something, or a file cannot be written.
    """
    check_export_folder(folder)
    check_llava_holds(encoder)
    shards = shards_by_tensor(base, KEY)
    mine = _replaced(shards)
    trained = {name: tensor.to(dtype) for name, tensor in llava_projector_tensors(projector).items()}
    rewritten = {shards[name].name for name in mine}
    with unfinished(folder) as new:
        llava_processor(encoder, text).save_pretrained(new)
        generation_config(text).save_pretrained(new)
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
        changed = 0
        for file in sorted(rewritten):
            changed += _rewrite(base / file, new / file, {name: trained[own] for name, own in mine.items()})
        for path in sorted(base.iterdir()):
            if (
                path.is_file()
                and not path.name.startswith(".")
                and _taken(path.name)
                and not (new / path.name).exists()
            ):
                _link(path, new / path.name)
        if changed and (base / INDEX).is_file():
            index = json.loads((base / INDEX).read_text(encoding="utf-8"))
            metadata = index.setdefault("metadata", {})
            if "total_size" in metadata:
                metadata["total_size"] += changed
            (new / INDEX).unlink()  # a link: the base's own must not change
            (new / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def _taken(name: str) -> bool:
    return name not in _NOT_TAKEN and not name.endswith(_OTHER_WEIGHTS) and not name.endswith(".bin.index.json")


def _rewrite(old: Path, new: Path, replaced: dict[str, Tensor]) -> int:
    """Write a shard with some tensors replaced; returns how many bytes larger its tensors are."""
    tensors: dict[str, Tensor] = {}
    changed = 0
    with opened(old) as file:
        metadata: dict[str, Any] = file.metadata() or {"format": "pt"}
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = tensors[name] = file.get_tensor(name)
            if name in replaced:
                tensors[name] = replaced[name].contiguous()
                changed += tensors[name].nbytes - tensor.nbytes
    save_file(tensors, new, metadata=metadata)
    return changed


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old.resolve(), new)
    except OSError:  # another disk, or one that has no hard links
        shutil.copyfile(old, new)
