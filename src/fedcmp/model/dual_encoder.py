"""Image and caption embeddings of a CLIP-like dual encoder: what the scenarios cluster by.

A caption is prepared as the model was trained on it:

    SigLIP, SigLIP2   padded to the longest caption that the text tower takes, for it pools the last position
    others            padded to the longest of the batch; a tokenizer that does not close a caption is helped out
    all               in small letters where the tokenizer's files say so; transformers 5 forgets it for SigLIP2's
                      checkpoints of fixed resolution, whose Gemma tokenizer knows no small letters

Shapes: B images or captions, E embedding width.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from tokenizers.normalizers import Lowercase
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, PreTrainedConfig

from fedcmp.errors import UserError, shortage
from fedcmp.model.locations import device_of, dtype_of, fingerprint, first_line, load, load_model, resolve
from fedcmp.model.prompts import check_embeddings
from fedcmp.model.scaling import check_scaled
from fedcmp.model.vision import KEY, VisionEncoder

_PADDED_TO_THE_END = ("siglip", "siglip2")
_OF_ONE_COPY = ("_name_or_path", "_commit_hash", "transformers_version")  # of a config: they change nothing


class DualEncoder:
    """Embeds images and captions in one space.

    Args:
        name: "world", a folder or a hub name of a model with get_image_features and get_text_features.
        encoder: the same model as a VisionEncoder, to share its preprocessing; without it, the model's own image
            processor.
        dtype: of the weights and the arithmetic.
        device: "auto", "cpu", "cuda", ...
        key: the recipe key or option that `name` was given by, for errors.

    Raises:
        UserError: the model has no text half or no image half, its tokenizer or image processor is missing, or the
            tokenizer has words that the model has no embeddings for.
    """

    def __init__(
        self,
        name: str,
        encoder: VisionEncoder | None = None,
        *,
        dtype: str = "float32",
        device: str = "auto",
        key: str = KEY,
    ) -> None:
        self.location = resolve(name, "vision", key)
        self.device, self.dtype, self.encoder = device_of(device), dtype_of(dtype), encoder
        self.model: Any = load_model(AutoModel, self.location, key, dtype=self.dtype).to(self.device).eval()
        otherwise = ", or scenario.kind = 'iid'" if key == KEY else ""
        for half in ("text", "image"):
            if not hasattr(self.model, f"get_{half}_features"):
                raise UserError(
                    f"{key} = {name!r}: has no {half} half, so pairs cannot be compared; "
                    f"use a CLIP or SigLIP model{otherwise}"
                )
        self.processor: Any = load(AutoImageProcessor, self.location, key) if encoder is None else encoder.processor
        self.tokenizer: Any = load(AutoTokenizer, self.location, key)
        self.longest = min(
            int(self.model.config.text_config.max_position_embeddings), int(self.tokenizer.model_max_length)
        )
        self._place = f"{key} = {name!r}"
        rows = getattr(self.model.config.text_config, "vocab_size", None)
        check_embeddings(self.tokenizer, rows, self._place)
        self._to_the_end = self.model.config.model_type in _PADDED_TO_THE_END
        self._small_letters = Lowercase() if self.tokenizer.init_kwargs.get("do_lower_case") else None
        end = self.tokenizer.eos_token_id
        self._closes_itself = end is None or self.tokenizer("a")["input_ids"][-1:] == [end]
        self._fingerprint: str | None = None

    @property
    def width(self) -> int:
        """Return E, found by embedding two images and a caption: what does not fit together is found early.

        Raises:
            UserError: the image processor or the tokenizer does not fit the model, its embeddings are not finite, or
                images and captions have embeddings of different width.
        """
        shapes = ((64, 64), (128, 64))
        try:
            image = torch.cat([self.images([Image.new("RGB", shape, (90, 40, 160))]) for shape in shapes])
            caption = self.texts(["a"])
        except Exception as error:  # whatever a model raises that is fed by another one's processor
            if isinstance(error, UserError) or shortage(error) is not None:
                raise
            raise UserError(
                f"{self._place}: cannot embed an image and a caption ({first_line(error)}); use its own image "
                "processor and tokenizer"
            ) from error
        if not (image.isfinite().all() and caption.isfinite().all()):
            dtype = str(self.dtype).removeprefix("torch.")
            raise UserError(
                f"{self._place}: its embeddings are not finite in {dtype}; use another one, or get the checkpoint again"
            )
        if image.shape[1] != caption.shape[1]:
            raise UserError(
                f"{self.location}: embeds images in {image.shape[-1]} and captions in {caption.shape[-1]} "
                "dimensions, so they cannot be compared; use a CLIP or SigLIP model"
            )
        return int(image.shape[1])

    def prepare(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Prepare RGB images of any size for the image half, each on its own; threads may call this at once."""
        if self.encoder is not None:
            return {"pixel_values": self.encoder.pixel_values(images)}
        for image in images:
            check_scaled(self.processor, *image.size)
        return dict(self.processor(images=list(images), return_tensors="pt"))

    @torch.no_grad()
    def prepared_images(self, inputs: dict[str, Tensor]) -> Tensor:
        """Turn what `prepare` made of B images into (B, E) unit vectors, on the CPU."""
        inputs = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }
        return _unit(self.model.get_image_features(**inputs))

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn RGB images into (B, E) unit vectors, on the CPU."""
        return self.prepared_images(self.prepare(images))

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Turn captions into (B, E) unit vectors, on the CPU; long ones are cut."""
        if self._small_letters is not None:
            captions = [self._small_letters.normalize_str(caption) for caption in captions]
        return _unit(self.model.get_text_features(**self._tokens(list(captions))))

    def count_cut(self, captions: Sequence[str]) -> int:
        """Return how many of these captions have more tokens than the text half reads."""
        if not captions:
            return 0
        rows = self.tokenizer(list(captions), truncation=False, verbose=False)["input_ids"]
        return sum(len(row) + (not self._to_the_end and not self._closes_itself) > self.longest for row in rows)

    def fingerprint(self) -> str:
        """Return sha256 of the weights of both halves, their arithmetic, the preprocessing and the tokenizer."""
        if self._fingerprint is None:
            config, _ = PreTrainedConfig.get_config_dict(self.location)
            self._fingerprint = fingerprint(
                self.model.state_dict(),
                _stripped(config),
                [type(self.processor).__name__, self.processor.to_dict()],
                _tokenizer_description(self.tokenizer),
                [self.longest, self._to_the_end, self._closes_itself, self._small_letters is not None, str(self.dtype)],
            )
        return self._fingerprint

    def _tokens(self, captions: list[str]) -> dict[str, Tensor]:
        if self._to_the_end or self._closes_itself:
            padding = "max_length" if self._to_the_end else "longest"
            inputs = self.tokenizer(
                captions, padding=padding, truncation=True, max_length=self.longest, return_tensors="pt"
            )
            return {name: tensor.to(self.device) for name, tensor in inputs.items()}
        end = self.tokenizer.eos_token_id
        rows = self.tokenizer(captions, truncation=True, max_length=self.longest - 1)["input_ids"]
        rows = [row if row[-1:] == [end] else [*row, end] for row in rows]
        length = max(map(len, rows))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else end
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=self.device)
        counts = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(length, device=self.device) < counts[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask}


def _unit(output: Any) -> Tensor:
    embeddings: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return functional.normalize(embeddings.float(), dim=-1).cpu()


def _stripped(config: Any) -> Any:
    """Return a config without what differs between copies of a checkpoint."""
    if isinstance(config, dict):
        return {name: _stripped(value) for name, value in config.items() if name not in _OF_ONE_COPY}
    return [_stripped(value) for value in config] if isinstance(config, list) else config


def _tokenizer_description(tokenizer: Any) -> list[str]:
    """Return what decides a caption's ids; a tokenizer's padding and truncation are left out, for calls change them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = {"vocabulary": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    else:
        rules = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    told = json.dumps(rules, sort_keys=True, default=str)
    return [type(tokenizer).__name__, tokenizer.padding_side, hashlib.sha256(told.encode()).hexdigest()]
