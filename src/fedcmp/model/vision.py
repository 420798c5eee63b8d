"""The frozen vision encoder: images to patch features, from any CLIP-, SigLIP- or DINOv2-like transformers model.

Tokens in front of the patches (a class token, DINOv2's registers) are counted: what an image has beyond its grid of
patches, the grid taken from the size that the image processor really makes, which need not be the config's image_size.
Shapes: B images, P patches, V vision width (that of all chosen layers together).
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
from fedcmp.model.llava_folder import is_llava, load_vision_half
from fedcmp.model.locations import device_of, dtype_of, fingerprint, load, load_model, resolve
from fedcmp.model.processing import check_features, check_layers, processed
from fedcmp.model.scaling import check_scaled

Strategy = Literal["auto", "default", "full"]
KEY = "model.vision"


class VisionEncoder:
    """Frozen encoder with its own image processor.

    Args:
        name: "world", a folder or a hub name; a dual encoder (CLIP, SigLIP), its vision half, a DINOv2, or a folder of
            a Hugging Face LLaVA, whose tower is meant.
        layer: which hidden states are the features, counted as transformers' LLaVA does: 0 is the embeddings, -1 the
            last layer's output; LLaVA uses -2. Of a list, the hidden states are put side by side.
        strategy: "default" drops what comes before the patches (class token, registers), "full" keeps all tokens,
            "auto" drops them where there are any.
        dtype: of the weights and the arithmetic.
        device: "auto", "cpu", "cuda", ...

    Raises:
        UserError: a model that cannot be loaded, that is no image encoder, a layer that it does not have, or an image
            processor that does not fit it (processing.py).
    """

    def __init__(
        self,
        name: str,
        *,
        layer: int | list[int] = -2,
        strategy: Strategy = "auto",
        dtype: str = "float32",
        device: str = "auto",
    ) -> None:
        where = resolve(name, "vision", KEY)
        self.name, self.location, self.layer = name, where, layer
        self.device, self.dtype = device_of(device), dtype_of(dtype)
        whole = load(AutoConfig, where, KEY)
        self.in_llava = is_llava(whole, where, KEY)
        self.config = getattr(whole, "vision_config", whole)
        _check_fixed_resolution(name, whole.model_type, self.config)
        model = self.load_weights()
        layers = layer if isinstance(layer, list) else [layer]
        self.width = int(self.config.hidden_size) * len(layers)
        self.patch_size, self.image_size = int(self.config.patch_size), int(self.config.image_size)
        self.model: nn.Module = model.to(self.device).eval().requires_grad_(False)
        use_frozen_linears(self.model)
        self.processor: Any = load(AutoImageProcessor, where, KEY)
        self._fingerprint: str | None = None
        self._keep_layers_below(layers)
        place = f"{KEY} = {name!r}"
        pixels = processed(self.processor, self.image_size, place).to(self.device, self.dtype)
        self._fast = _FastPreprocessing.proven_equal(self.processor, self.image_size, self.device)
        self.grid = (int(pixels.shape[-2]) // self.patch_size, int(pixels.shape[-1]) // self.patch_size)
        with torch.no_grad():
            tokens = check_features(self._tokens, pixels, self.image_size, place).shape[1]
        self.num_prefix_tokens = tokens - self.grid[0] * self.grid[1]
        self.has_class_token = self.num_prefix_tokens > 0
        if strategy == "default" and not self.has_class_token:
            raise UserError(
                f"model.vision_strategy = 'default': {name!r} has no class token to drop; use 'full' or 'auto'"
            )
        self.strategy: Literal["default", "full"] = (
            strategy if strategy != "auto" else "default" if self.has_class_token else "full"
        )
        self.num_patches = tokens - self.num_prefix_tokens if self.strategy == "default" else tokens

    def load_weights(self) -> nn.Module:
        """Return the tower as its checkpoint has it, all layers, on the CPU."""
        if self.in_llava:
            half: nn.Module = load_vision_half(self.location, KEY, dtype=self.dtype)
            return half
        whole = load_model(AutoModel, self.location, KEY, dtype=self.dtype)
        tower: nn.Module = getattr(whole, "vision_model", whole)
        return tower

    def _keep_layers_below(self, wanted: list[int]) -> None:
        """Drop the layers above the last one that is read."""
        count = int(self.config.num_hidden_layers)
        self._indices = check_layers(repr(self.name), wanted, count)
        encoder = getattr(self.model, "encoder", None)
        layers = getattr(encoder, "layers", getattr(encoder, "layer", None))  # DINOv2 has `layer`
        self._hooked: list[nn.Module] = []
        if isinstance(layers, nn.ModuleList) and len(layers) == count:
            del layers[max(self._indices) :]
            self._hooked = [layers[index - 1] for index in self._indices]

    def _tokens(self, pixel_values: Tensor) -> Tensor:
        if not self._hooked:
            out = self.model(pixel_values, output_hidden_states=True)
            return torch.cat([out.hidden_states[index] for index in self._indices], -1)
        kept: dict[int, Tensor] = {}

        def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
            kept[id(module)] = output[0] if isinstance(output, tuple) else output

        handles = [module.register_forward_hook(keep) for module in {id(m): m for m in self._hooked}.values()]
        try:
            self.model(pixel_values)
        finally:
            for handle in handles:
                handle.remove()
        states = [kept[id(module)] for module in self._hooked]
        return states[0] if len(states) == 1 else torch.cat(states, -1)

    def resized(self, image: Image.Image) -> Image.Image:
        """Turn an RGB image of any size into one of equal pixel values, of the encoder's own size if it can be.

        Resizing takes most of the time, and may go on in several threads.

        Raises:
            TooLargeAfterResizing: it would become too large on the way.
        """
        check_scaled(self.processor, *image.size)
        return image if self._fast is None else self._fast.resized(image)

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn RGB images of any size into (B, 3, side, side), as the encoder's own processor makes them."""
        resized = [self.resized(image) for image in images]
        if self._fast is not None and all(image.size == self._fast.size for image in resized):
            pixels = self._fast(resized)
        else:
            pixels = self.processor(images=resized, return_tensors="pt")["pixel_values"]
        return pixels.to(self.device, self.dtype)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn RGB images into (B, P, V) features, on the CPU, in the encoder's dtype."""
        tokens = self._tokens(self.pixel_values(images))
        return (tokens[:, self.num_prefix_tokens :] if self.strategy == "default" else tokens).cpu()

    def fingerprint(self) -> str:
        """Return sha256 of the weights that are used, the preprocessing, the layer and the strategy."""
        if self._fingerprint is None:
            how = self.processor.to_dict()
            self._fingerprint = fingerprint(self.model.state_dict(), how, self.layer, self.strategy, str(self.dtype))
        return self._fingerprint


def _check_fixed_resolution(name: str, model_type: str, config: Any) -> None:
    if not hasattr(config, "patch_size"):
        raise UserError(f"{KEY} = {name!r}: a {model_type} model is no image encoder; use a CLIP or SigLIP one")
    if not hasattr(config, "image_size"):
        raise UserError(
            f"{KEY} = {name!r}: a {model_type} model takes images of any resolution, with masks that LLaVA's format "
            "has no place for; use one of fixed resolution, such as google/siglip2-base-patch16-256"
        )
    if not isinstance(config.patch_size, int) or not isinstance(config.image_size, int):
        raise UserError(f"{KEY} = {name!r}: has patches or images that are not square; use another encoder")


class _FastPreprocessing:
    """The image processor in two steps: each image resized apart, then whole batches rescaled and normalised."""

    def __init__(self, processor: Any, side: int, device: torch.device) -> None:
        self.size = (side, side)
        self._processor, self._resizes = processor, True
        scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        mean = torch.tensor(processor.image_mean if processor.do_normalize else [0.0] * 3)
        std = torch.tensor(processor.image_std if processor.do_normalize else [1.0] * 3)
        self._gain, self._offset = ((scale / std).view(3, 1, 1).to(device), (mean / std).view(3, 1, 1).to(device))

    @classmethod
    def proven_equal(cls, processor: Any, side: int, device: torch.device) -> "_FastPreprocessing | None":
        """Return the fast route, if random images come out as the library's processor makes them."""
        try:
            fast = cls(processor, side, device)
            if not fast._agrees(side, side):
                return None
            fast._resizes = all(fast._agrees(*other) for other in ((2 * side, side + 7), (side - 5, 3 * side)))
        except (AttributeError, TypeError, ValueError):
            return None
        return fast

    def resized(self, image: Image.Image) -> Image.Image:
        """Return what the processor resizes and crops, as 8-bit RGB; the image itself where it does something else."""
        if image.size == self.size or not self._resizes:
            return image
        whole = self._processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="np")
        return Image.fromarray(whole["pixel_values"][0].transpose(1, 2, 0))

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn RGB images of the right size into (B, 3, side, side), float32."""
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).to(self._gain.device)
        # in place: a batch in float32 fills the caches many times over
        return pixels.permute(0, 3, 1, 2).float().mul_(self._gain).sub_(self._offset)

    def _agrees(self, width: int, height: int) -> bool:
        noise = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.fromarray(noise)
        expected = self._processor(images=[image], return_tensors="pt")["pixel_values"].float()
        resized = self.resized(image)
        if resized.size != self.size:
            return False
        got = self([resized]).cpu()
        return got.shape == expected.shape and torch.allclose(got, expected, rtol=0, atol=1e-5)
