"""Towers and LLMs of the real architectures, tiny and random, saved as the hub has them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.conftest import TEXT
from tests.model.dual_encoders import clip_folder, siglip2_folder

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
CAPTIONS = ["a grey cat slept on the red roof", "two chefs at the harbour", "a mountain lake", "rain fell on the dog"]

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
DATED = "Today is {{ strftime_now('%d %b %Y') }}.\n"


def tower_folder(folder: Path, kind: str) -> Path:
    """A vision tower.

    Args:
        folder: created.
        kind: clip, clip-vision (the vision half alone), siglip, siglip2, dinov2, dinov2-registers.
    """
    folder.mkdir()
    torch.manual_seed(11)
    if kind == "siglip2":
        return siglip2_folder(folder)
    if kind == "clip":
        return clip_folder(folder)
    sides = {"image_size": 32, "patch_size": 8}
    if kind == "siglip":
        text = SMALL | {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        hf.SiglipModel(hf.SiglipConfig(vision_config=SMALL | sides, text_config=text)).save_pretrained(folder)
        SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder
    if kind == "clip-vision":
        hf.CLIPVisionModel(hf.CLIPVisionConfig(**SMALL, **sides)).save_pretrained(folder)
        size, crop = {"shortest_edge": 32}, {"height": 32, "width": 32}
    else:  # as facebook/dinov2-base: trained at 518, its processor crops to 224 from 256
        own = {key: value for key, value in SMALL.items() if key != "intermediate_size"} | {"image_size": 48}
        if kind == "dinov2-registers":
            config = hf.Dinov2WithRegistersConfig(**own, patch_size=8, num_register_tokens=4)
            model: Any = hf.Dinov2WithRegistersModel(config)
        else:
            model = hf.Dinov2Model(hf.Dinov2Config(**own, patch_size=8))
        model.save_pretrained(folder)
        size, crop = {"shortest_edge": 40}, {"height": 32, "width": 32}
    CLIPImageProcessorPil(size=size, crop_size=crop).save_pretrained(folder)
    return folder


def sentencepiece_like(*, legacy: bool, template: str | None = None, special: tuple[str, ...] = ()) -> Any:
    """Llama 2's and Vicuna's kind: <s> in front, bytes for unknown letters, a mark for spaces, no padding token.

    Args:
        legacy: a space of its own at each piece between special tokens; else at a text's beginning only.
        template: of the chat.
        special: further special tokens.
    """
    letters = sorted(set("".join(TEXT + CAPTIONS)) - {" "} | set("Provideabrfscptnhgm.[]/INST"))
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, "▁a", "▁the"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("▁t", "he")]
    bpe = models.BPE(vocab=vocabulary, merges=merges[:1], fuse_unk=True, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    known = [AddedToken(name, normalized=False, special=True) for name in ("<unk>", "<s>", "</s>", *special)]
    tokenizer.add_special_tokens(known)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = template
    return fast


def byte_level(*, end: str, special: tuple[str, ...], template: str | None = None, pad: str | None = None) -> Any:
    """Qwen's and Phi's kind: bytes, no token in front of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=list(special), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT + CAPTIONS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=pad)
    fast.chat_template = template
    return fast


def _llama2(template: str | None = None) -> Any:
    return sentencepiece_like(legacy=False, template=template)


def _gemma_tokens() -> Any:
    return sentencepiece_like(legacy=True, template=GEMMA, special=("<start_of_turn>", "<end_of_turn>"))


def _chatml(end: str = "<|im_end|>") -> Any:
    return byte_level(end=end, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), template=CHATML)


def _plain_bytes() -> Any:
    return byte_level(end="<|endoftext|>", special=("<|endoftext|>",))


_GROUPED = SMALL | {"num_key_value_heads": 2}
_GEMMA = _GROUPED | {"head_dim": 8, "tie_word_embeddings": True}
LLMS: dict[str, tuple[type, type, dict[str, Any], Callable[[], Any]]] = {
    "vicuna": (hf.LlamaConfig, hf.LlamaForCausalLM, SMALL, _llama2),
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, _GROUPED, lambda: _llama2(LLAMA_2)),
    "smollm": (hf.LlamaConfig, hf.LlamaForCausalLM, _GROUPED | {"tie_word_embeddings": True}, _chatml),
    "smollm3": (hf.SmolLM3Config, hf.SmolLM3ForCausalLM, _GROUPED | {"no_rope_layer_interval": 2}, _chatml),
    "mistral": (hf.MistralConfig, hf.MistralForCausalLM, _GROUPED | {"sliding_window": 16}, lambda: _llama2(LLAMA_2)),
    "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM, _GROUPED | {"tie_word_embeddings": True}, _chatml),
    "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM, _GROUPED | {"head_dim": 16}, _chatml),
    "gemma": (hf.GemmaConfig, hf.GemmaForCausalLM, _GEMMA, _gemma_tokens),
    "gemma2": (
        hf.Gemma2Config,
        hf.Gemma2ForCausalLM,
        _GEMMA | {"query_pre_attn_scalar": 8, "sliding_window": 16},
        _gemma_tokens,
    ),
    "gemma3": (
        hf.Gemma3TextConfig,
        hf.Gemma3ForCausalLM,
        _GEMMA | {"query_pre_attn_scalar": 8, "sliding_window": 16},
        _gemma_tokens,
    ),
    "phi": (hf.PhiConfig, hf.PhiForCausalLM, SMALL, _plain_bytes),
    "phi3": (hf.Phi3Config, hf.Phi3ForCausalLM, SMALL, _chatml),
}


def llm_folder(folder: Path, kind: str) -> Path:
    """A causal LM of an architecture with a tokenizer of its family's kind."""
    folder.mkdir()
    config_class, model_class, options, tokenizer = LLMS[kind]
    fast = tokenizer()
    ids = {"bos_token_id": fast.bos_token_id, "eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id}
    config = config_class(vocab_size=len(fast), max_position_embeddings=256, **ids, **options)
    _loud(model_class, config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def vicuna_folder(folder: Path) -> Path:
    """As lmsys/vicuna-7b-v1.5 lies on the hub: a SentencePiece model without tokenizer.json, weights in pickles."""
    folder.mkdir()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT + CAPTIONS) * 30),
        model_writer=written,
        model_type="bpe",
        vocab_size=340,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    tokens = {
        name: {
            "__type": "AddedToken",
            "content": text,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        }
        for name, text in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
    }
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        "add_eos_token": False,
        "model_max_length": 4096,
        "pad_token": None,
        "sp_model_kwargs": {},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens | settings))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue()).get_piece_size()
    model = _loud(hf.LlamaForCausalLM, hf.LlamaConfig(**SMALL, vocab_size=pieces, max_position_embeddings=256))
    model.config.save_pretrained(folder)
    weights, listed = {name: tensor.half() for name, tensor in model.state_dict().items()}, {}
    for number, part in ((1, sorted(weights)[:10]), (2, sorted(weights)[10:])):
        shard = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, folder / shard)
        listed |= dict.fromkeys(part, shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return folder


def _loud(model_class: Any, config: Any) -> Any:
    """Louder weights than new ones: answers that depend on what was read."""
    torch.manual_seed(12)
    model = model_class(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(2 if "embed" in name else 12)
    return model
