"""Export to a LlavaForConditionalGeneration folder.

A linear projector is written as LLaVA's two layers with the identity in between and behind: the same function.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
)

from fedcmp.errors import UserError
from fedcmp.model.locations import BUILDING
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import activation_of, llava_projector_tensors
from fedcmp.model.prompts import IMAGE_TOKEN, add_image_token
from fedcmp.model.text_format import TextFormat
from fedcmp.model.vision import VisionEncoder


def export_llava(
    folder: Path,
    encoder: VisionEncoder,
    projector: Projector,
    text: TextFormat,
    *,
    dtype: torch.dtype = torch.float32,
    card: str | None = None,
) -> Path:
    """Write model, tokenizer and processor as one LLaVA folder, whole or not at all.

    The LLM is read from its checkpoint and is in memory once. The folder holds one dtype. Where that is bfloat16 or
    float16, the projector is exported in it too, while ours computes in float32: in rare near-ties of two tokens the
    exported model's greedy answer can be another one.

    Args:
        folder: created; must not exist yet, or be empty.
        encoder: with any layer or layers.
        projector: "mlp" or "linear".
        text: the LLM's; its tokenizer gains an `<image>` token if it has none; the vocabulary grows only if it must.
        dtype: of all weights.
        card: the text of README.md.

    Returns:
        The folder. `LlavaForConditionalGeneration.from_pretrained(folder)` loads it with no missing, unexpected or
        mismatched key.

    Raises:
        UserError: the folder holds something already, or encoder or LLM have what LLaVA's format cannot hold.
    """
    check_export_folder(folder)
    check_llava_holds(encoder)
    add_image_token(text.tokenizer)
    image_token_id = int(text.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    llm = text.load_weights(dtype)
    if getattr(llm.get_output_embeddings(), "bias", None) is not None:
        raise UserError(f"model.language = {text.name!r}: its output layer has a bias, which LLaVA's has not")
    if image_token_id >= llm.get_input_embeddings().weight.shape[0]:
        # new rows are the mean of the others: their logits can never be the largest
        before = llm.get_input_embeddings().weight.shape[0]
        llm.resize_token_embeddings(image_token_id + 1, mean_resizing=False)
        for table in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight):
            table.data[before:] = table.data[:before].mean(0)
    model = _assembled(encoder, projector, llm, image_token_id, dtype)
    _check_same_words(model, llm, text.name)
    model.generation_config = generation_config(text)
    processor = llava_processor(encoder, text)
    with unfinished(folder) as new:
        processor.save_pretrained(new)
        model.save_pretrained(new)
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
    return folder


def _assembled(
    encoder: VisionEncoder, projector: Projector, llm: PreTrainedModel, image_token_id: int, dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    """Return a LLaVA around the LLM's own modules: a copy, or random weights first, would take as much memory again."""
    config = LlavaConfig(
        vision_config=encoder.config,
        text_config=llm.config,
        image_token_index=image_token_id,
        vision_feature_layer=encoder.layer,
        vision_feature_select_strategy=encoder.strategy,
        projector_hidden_act=activation_of(projector),
        image_seq_length=encoder.num_patches,
        tie_word_embeddings=bool(llm.config.tie_word_embeddings),
    )
    with BUILDING:
        with torch.device("meta"):
            model = LlavaForConditionalGeneration(config).to(dtype)
        tower = AutoModel.from_config(encoder.config, trust_remote_code=False).to(dtype)
    tower.load_state_dict(encoder.load_weights().state_dict())
    model.model.vision_tower = tower
    model.model.language_model, model.lm_head = llm.base_model, llm.get_output_embeddings()
    model.model.multi_modal_projector.to_empty(device="cpu").load_state_dict(llava_projector_tensors(projector))
    return model


def check_llava_holds(encoder: VisionEncoder) -> None:
    """Refuse an encoder whose features LLaVA's format cannot say.

    Raises:
        UserError: several tokens are dropped in front of the patches; LLaVA's "default" drops one.
    """
    if encoder.strategy == "default" and encoder.num_prefix_tokens > 1:
        raise UserError(
            f"model.vision_strategy = 'default': {encoder.name!r} has {encoder.num_prefix_tokens} tokens before the "
            "patches, and LLaVA's format drops one only; train with 'full' to export, or with --projector-only"
        )


def llava_processor(encoder: VisionEncoder, text: TextFormat) -> LlavaProcessor:
    """Return the processor that makes what the projector was trained with; the tokenizer has `<image>`."""
    return LlavaProcessor(
        encoder.processor,
        text.tokenizer,
        patch_size=encoder.patch_size,
        vision_feature_select_strategy=encoder.strategy,
        num_additional_image_tokens=encoder.num_prefix_tokens,
        image_token=IMAGE_TOKEN,
        chat_template=text.chat_template(),
    )


def generation_config(text: TextFormat) -> GenerationConfig:
    """Return greedy decoding that ends where captions ended in training."""
    return GenerationConfig(
        bos_token_id=text.tokenizer.bos_token_id, eos_token_id=text.end, pad_token_id=text.pad, do_sample=False
    )


@torch.no_grad()
def _check_same_words(model: LlavaForConditionalGeneration, llm: PreTrainedModel, name: str) -> None:
    """Refuse an LLM that does to its logits what LLaVA's plain output layer does not, if the best one changes."""
    ids = torch.arange(8)[None] % llm.get_input_embeddings().weight.shape[0]
    ours = llm.eval()(input_ids=ids, use_cache=False).logits.float()
    theirs = model.eval()(input_ids=ids, use_cache=False).logits.float()
    best, chosen = ours.max(-1).values, ours.gather(-1, theirs.argmax(-1, keepdim=True))[..., 0]
    if not torch.allclose(best, chosen, rtol=1e-2, atol=1e-3):
        raise UserError(
            f"model.language = {name!r}: computes other words than its parts in LLaVA's format do, so it cannot be "
            "exported; --projector-only writes the projector"
        )


def check_export_folder(folder: Path) -> None:
    """Refuse a folder that holds something; cheap, so that a caller can ask before it loads models.

    Raises:
        UserError: it holds a model or anything else, or is no folder.
    """
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; give another folder or remove this one")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; give a new folder")


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Yield a hidden sibling to write into; renamed at the end: a kill leaves no half-written `folder`.

    Raises:
        UserError: it cannot be written.
    """
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        readable = _mode_of_new_files(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # a link is the base's own file
                    os.fchmod(descriptor, readable)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.replace(folder)  # an empty folder may be there; what else is there is not replaced
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _mode_of_new_files(folder: Path) -> int:
    """Return what the umask lets a new file be: safetensors alone writes files that only their owner can read."""
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def prompt_text(language: TextFormat, question: str) -> str:
    """Return the text to hand to the exported processor, so that it sees what the projector was trained with."""
    return language.prompt_text(question)
