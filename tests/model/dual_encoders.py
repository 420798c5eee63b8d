"""Dual encoders of the real architectures, tiny and random, saved as the hub has them."""

import json

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,0123456789"


def siglip2_folder(folder, *, seed=5, side=32, lower=True):
    """A SigLIP 2 of fixed resolution, as google/siglip2-large-patch16-512: model_type siglip, a Gemma tokenizer."""
    size = _gemma_tokenizer(folder, {"tokenizer_class": "GemmaTokenizer", "do_lower_case": lower})
    torch.manual_seed(seed)
    config = SiglipConfig(vision_config=SMALL | {"image_size": side, "patch_size": 8}, text_config=_text(size))
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": side, "width": side}, resample=2).save_pretrained(folder)
    return folder


def naflex_folder(folder):
    """A SigLIP 2 of any resolution, as google/siglip2-base-patch16-naflex: model_type siglip2."""
    size = _gemma_tokenizer(folder, {"tokenizer_class": "GemmaTokenizer"})
    torch.manual_seed(6)
    config = Siglip2Config(vision_config=SMALL | {"num_patches": 16, "patch_size": 8}, text_config=_text(size))
    Siglip2Model(config).save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=20).save_pretrained(folder)
    return folder


def clip_folder(folder):
    """A CLIP with CLIP's own tokenizer: byte-level, closes captions itself, pads with its end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24).save_pretrained(folder)
    end = vocabulary["<|endoftext|>"]
    text = {"vocab_size": len(pieces), "max_position_embeddings": 24, "bos_token_id": end - 1, "eos_token_id": end}
    torch.manual_seed(7)
    config = CLIPConfig(
        vision_config=SMALL | {"image_size": 32, "patch_size": 8},
        text_config=SMALL | text | {"pad_token_id": end},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_convert_rgb=True
    ).save_pretrained(folder)
    return folder


def _text(vocabulary):
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return SMALL | tokens | {"vocab_size": vocabulary, "max_position_embeddings": 64, "projection_size": 32}


def _gemma_tokenizer(folder, options):
    """Letters, some merges, and bytes for the rest; returns the size of the vocabulary."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [letter.replace(" ", "▁") for letter in LETTERS]
    merged = ["▁a", "▁d", "▁do", "▁dog", "ca", "cat"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *merged]
    merges = [("▁", "a"), ("▁", "d"), ("▁d", "o"), ("▁do", "g"), ("c", "a"), ("ca", "t")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{name.strip('<>')}_token": name for name in special}
    content = named | {"padding_side": "right", "add_bos_token": False, "add_eos_token": True}
    content |= {"model_max_length": 64, "model_input_names": ["input_ids"]} | options
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return len(pieces)
