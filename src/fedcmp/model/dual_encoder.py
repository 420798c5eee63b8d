"""Picture and caption embeddings of a CLIP-like dual encoder: what the scenarios cluster by."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from fedcmp.errors import UserError
from fedcmp.model.locations import device_of, dtype_of, load, load_model, resolve
from fedcmp.model.vision import KEY, VisionEncoder


class DualEncoder:
    """Embeds pictures and captions in one space.

    Args:
        name: "world", a folder or a hub name of a model with get_image_features and get_text_features.
        encoder: the same model as a VisionEncoder; its preprocessing is shared.
        dtype: of the weights and the arithmetic.
        device: "auto", "cpu", "cuda", ...

    Raises:
        UserError: the model has no text half, or its tokenizer is missing.
    """

    def __init__(self, name: str, encoder: VisionEncoder, *, dtype: str = "float32", device: str = "auto") -> None:
        where = resolve(name, "vision", KEY)
        self.device, self.encoder = device_of(device), encoder
        self.model: Any = load_model(AutoModel, where, KEY, dtype=dtype_of(dtype)).to(self.device).eval()
        if not hasattr(self.model, "get_text_features"):
            raise UserError(
                f"{KEY} = {name!r}: has no text half, so captions cannot be clustered; "
                "use a CLIP or SigLIP model, or scenario.kind = 'iid'"
            )
        self.tokenizer: Any = load(AutoTokenizer, where, KEY)
        self.longest = int(self.model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB pictures -> (B, E) unit vectors, on the CPU."""
        return _unit(self.model.get_image_features(pixel_values=self.encoder.pixel_values(images)))

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (B, E) unit vectors, on the CPU; `<eos>` closes each, long ones are cut."""
        end = self.tokenizer.eos_token_id
        rows = self.tokenizer(list(captions), truncation=True, max_length=self.longest - 1)["input_ids"]
        if end is not None:
            rows = [row if row[-1:] == [end] else [*row, end] for row in rows]
        length = max(map(len, rows))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else end
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=self.device)
        counts = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(length, device=self.device) < counts[:, None]).long()
        return _unit(self.model.get_text_features(input_ids=ids, attention_mask=mask))


def _unit(output: Any) -> Tensor:
    embeddings: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return functional.normalize(embeddings.float(), dim=-1).cpu()
