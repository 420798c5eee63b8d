"""Export to a LlavaForConditionalGeneration folder, and reading a projector back from one.

A linear projector is written as LLaVA's two layers with the identity in between and behind: the same function.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AddedToken,
    AutoModel,
    AutoModelForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from fedcmp.errors import UserError
from fedcmp.model.language import KEY as LANGUAGE_KEY
from fedcmp.model.language import LanguageModel
from fedcmp.model.locations import load_model
from fedcmp.model.projector import Projector
from fedcmp.model.vision import KEY as VISION_KEY
from fedcmp.model.vision import VisionEncoder

IMAGE_TOKEN = "<image>"
_PREFIX = "multi_modal_projector."


def llava_projector_tensors(projector: Projector) -> dict[str, Tensor]:
    """The projector under LLaVA's four names."""
    tensors = projector.tensors()
    if projector.linear_2 is None:
        width = projector.linear_1.out_features
        tensors |= {"linear_2.weight": torch.eye(width), "linear_2.bias": torch.zeros(width)}
    return tensors


def export_llava(folder: Path, encoder: VisionEncoder, projector: Projector, language: LanguageModel) -> Path:
    """Write model, tokenizer and processor as one LLaVA folder, whole or not at all.

    The folder holds one dtype, the LLM's. Where that is bfloat16 or float16, the projector is exported in it too, while
    ours computes in float32: in rare near-ties of two tokens the exported model's greedy answer can be another one.

    Args:
        folder: created; must not exist yet, or be empty.
        encoder: with layer -2 or any other negative layer.
        projector: "mlp" or "linear".
        language: its tokenizer gains an `<image>` token if it has none; the vocabulary grows only if it must.

    Returns:
        The folder. `LlavaForConditionalGeneration.from_pretrained(folder)` loads it with no missing, unexpected or
        mismatched key.

    Raises:
        UserError: the folder holds something already, or the LLM has what LLaVA's format cannot hold.
    """
    check_export_folder(folder)
    tokenizer = language.tokenizer
    if tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) in (None, tokenizer.unk_token_id):
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
    image_token_id = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))

    llm = load_model(AutoModelForCausalLM, language.location, LANGUAGE_KEY, dtype=language.dtype)
    if image_token_id >= llm.get_input_embeddings().weight.shape[0]:
        # the new row is the mean of the others: its logit can never be the largest
        llm.resize_token_embeddings(image_token_id + 1, mean_resizing=False)
        for table in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight):
            table.data[image_token_id] = table.data[:image_token_id].mean(0)
    if getattr(llm.get_output_embeddings(), "bias", None) is not None:
        raise UserError(f"model.language = {language.name!r}: its output layer has a bias, which LLaVA's has not")
    text_config = llm.config
    whole = load_model(AutoModel, encoder.location, VISION_KEY, dtype=encoder.dtype)
    tower = getattr(whole, "vision_model", whole)

    config = LlavaConfig(
        vision_config=encoder.config,
        text_config=text_config,
        image_token_index=image_token_id,
        vision_feature_layer=encoder.layer,
        vision_feature_select_strategy=encoder.strategy,
        projector_hidden_act="gelu" if projector.kind == "mlp" else "linear",
        image_seq_length=encoder.num_patches,
        tie_word_embeddings=bool(text_config.tie_word_embeddings),
    )
    model = LlavaForConditionalGeneration(config).to(language.dtype)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(llm.base_model.state_dict())
    model.lm_head.weight.data.copy_(llm.get_output_embeddings().weight)
    model.model.multi_modal_projector.load_state_dict(llava_projector_tensors(projector))
    model.tie_weights()
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = language.end
    model.generation_config.pad_token_id = language.pad
    processor = LlavaProcessor(
        encoder.processor,
        tokenizer,
        patch_size=encoder.patch_size,
        vision_feature_select_strategy=encoder.strategy,
        num_additional_image_tokens=int(encoder.has_class_token),
        image_token=IMAGE_TOKEN,
        chat_template=chat_template(language.separator),
    )
    _write_whole(folder, processor, model)
    return folder


def check_export_folder(folder: Path) -> None:
    """Refuse a folder that holds something; cheap, so that a caller can ask before it loads models.

    Raises:
        UserError: it holds a model or anything else, or is no folder.
    """
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; give another folder or remove this one")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; give a new folder")


def _write_whole(folder: Path, *parts: Any) -> None:
    """Save into a hidden sibling and rename it: a kill leaves no half-written `folder`."""
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for part in parts:
            part.save_pretrained(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.replace(folder)  # an empty folder may be there; what else is there is not replaced
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def chat_template(separator: str) -> str:
    """Pictures first, each followed by the separator, then the text: the format the projector was trained in."""
    separator = separator.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    image = f"{{{{ '{IMAGE_TOKEN}{separator}' }}}}"
    return (
        "{% for m in messages %}{% if m['content'] is string %}"
        f"{{{{ m['content'] | replace('{IMAGE_TOKEN}\\n', '{IMAGE_TOKEN}{separator}') }}}}"
        "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        f"{image}"
        "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    )


def prompt_text(language: LanguageModel, question: str) -> str:
    """The text to hand to the exported processor, so that it sees what the projector was trained with."""
    return f"{IMAGE_TOKEN}{language.separator}{question}"


def read_llava_projector(folder: Path) -> dict[str, Tensor]:
    """The four projector tensors of a LLaVA folder, from whichever shard holds them.

    Raises:
        UserError: the folder has no safetensors files, or none of them holds a projector.
    """
    shards = sorted(folder.glob("*.safetensors"))
    found: dict[str, Tensor] = {}
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                if _PREFIX in key:
                    found[key.split(_PREFIX, 1)[1]] = file.get_tensor(key)
    if not found:
        raise UserError(f"{folder}: no safetensors file there holds a multi_modal_projector; is it a LLaVA checkpoint?")
    return found
