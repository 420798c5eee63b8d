"""The frozen vision encoder: pictures to patch features, from any CLIP- or SigLIP-like transformers model.

Shapes: B pictures, P patches, V vision width.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from fedcmp.errors import UserError
from fedcmp.model.frozen_linear import use_frozen_linears
from fedcmp.model.locations import device_of, dtype_of, fingerprint, load, load_model, resolve

Strategy = Literal["auto", "default", "full"]
KEY = "model.vision"


class VisionEncoder:
    """Frozen encoder with its own image processor.

    Args:
        name: "world", a folder or a hub name; a dual encoder (CLIP, SigLIP) or its vision half.
        layer: which hidden states are the features, counted as transformers' LLaVA does: 0 is the embeddings, -1 the
            last layer's output; LLaVA uses -2.
        strategy: "default" drops the class token, "full" keeps all tokens, "auto" drops it where there is one.
        dtype: of the weights and the arithmetic.
        device: "auto", "cpu", "cuda", ...

    Raises:
        UserError: a model that cannot be loaded, that is no image encoder, or a layer that it does not have.
    """

    def __init__(
        self,
        name: str,
        *,
        layer: int = -2,
        strategy: Strategy = "auto",
        dtype: str = "float32",
        device: str = "auto",
    ) -> None:
        where = resolve(name, "vision", KEY)
        self.name, self.location, self.layer = name, where, layer
        self.device, self.dtype = device_of(device), dtype_of(dtype)
        config = load(AutoConfig, where, KEY)
        whole = load_model(AutoModel, where, KEY, dtype=self.dtype)
        model = getattr(whole, "vision_model", whole)
        self.config = getattr(config, "vision_config", config)
        if not hasattr(self.config, "patch_size") or not hasattr(self.config, "image_size"):
            raise UserError(
                f"{KEY} = {name!r}: a {config.model_type} model is no image encoder; use a CLIP or SigLIP one"
            )
        self.width = int(self.config.hidden_size)
        self.patch_size, self.image_size = int(self.config.patch_size), int(self.config.image_size)
        self.model: nn.Module = model.to(self.device).eval().requires_grad_(False)
        use_frozen_linears(self.model)
        self.processor: Any = load(AutoImageProcessor, where, KEY)
        self._fingerprint: str | None = None
        self._keep_layers_below()
        self._fast = _FastPreprocessing.proven_equal(self.processor, self.image_size)
        tokens = self._tokens(self.pixel_values([Image.new("RGB", (self.image_size, self.image_size))])).shape[1]
        grid = (self.image_size // self.patch_size) ** 2
        self.has_class_token = tokens == grid + 1
        if strategy == "default" and not self.has_class_token:
            raise UserError(
                f"model.vision_strategy = 'default': {name!r} has no class token to drop; use 'full' or 'auto'"
            )
        self.strategy: Literal["default", "full"] = (
            strategy if strategy != "auto" else "default" if self.has_class_token else "full"
        )
        self.num_patches = tokens - 1 if self.strategy == "default" else tokens

    def _keep_layers_below(self) -> None:
        """Layers above the one that is read are never computed."""
        layers = getattr(getattr(self.model, "encoder", None), "layers", None)
        count = int(self.config.num_hidden_layers)
        index = self.layer if self.layer >= 0 else count + 1 + self.layer
        if not 0 < index <= count:
            raise UserError(f"model.vision_layer = {self.layer}: {self.name!r} has {count} layers; use -{count} to -1")
        self._hooked: nn.Module | None = None
        if isinstance(layers, nn.ModuleList) and len(layers) == count:
            del layers[index:]
            self._hooked = layers[index - 1]

    def _tokens(self, pixel_values: Tensor) -> Tensor:
        if self._hooked is None:
            out = self.model(pixel_values, output_hidden_states=True)
            states: Tensor = out.hidden_states[self.layer]
            return states
        kept: list[Tensor] = []
        handle = self._hooked.register_forward_hook(
            lambda _module, _inputs, output: kept.append(output[0] if isinstance(output, tuple) else output)
        )
        try:
            self.model(pixel_values)
        finally:
            handle.remove()
        return kept[0]

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of any size -> (B, 3, side, side), as the encoder's own processor makes them."""
        if self._fast is not None and all(image.size == self._fast.size for image in images):
            pixels = self._fast(images)
        else:
            pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return pixels.to(self.device, self.dtype)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB pictures -> (B, P, V) features, on the CPU, in the encoder's dtype."""
        tokens = self._tokens(self.pixel_values(images))
        return (tokens[:, 1:] if self.strategy == "default" else tokens).cpu()

    def fingerprint(self) -> str:
        """sha256 of the weights that are used, the preprocessing, the layer and the strategy."""
        if self._fingerprint is None:
            how = self.processor.to_dict()
            self._fingerprint = fingerprint(self.model.state_dict(), how, self.layer, self.strategy, str(self.dtype))
        return self._fingerprint


class _FastPreprocessing:
    """Rescale and normalise whole batches of pictures that need no resizing."""

    def __init__(self, processor: Any, side: int) -> None:
        self.size = (side, side)
        scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        mean = torch.tensor(processor.image_mean if processor.do_normalize else [0.0] * 3)
        std = torch.tensor(processor.image_std if processor.do_normalize else [1.0] * 3)
        self.gain, self.offset = (scale / std).view(3, 1, 1), (mean / std).view(3, 1, 1)

    @classmethod
    def proven_equal(cls, processor: Any, side: int) -> "_FastPreprocessing | None":
        """The fast route, if a random picture comes out as the library's processor makes it."""
        try:
            fast = cls(processor, side)
            noise = np.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(np.uint8)
            picture = Image.fromarray(noise)
            expected = processor(images=[picture], return_tensors="pt")["pixel_values"]
            got = fast([picture])
        except (AttributeError, TypeError):
            return None
        same = got.shape == expected.shape and torch.allclose(got, expected.float(), rtol=0, atol=1e-5)
        return fast if same else None

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return pixels.permute(0, 3, 1, 2).float() * self.gain - self.offset
