"""A projector alone: reading one from any place, writing one as Hugging Face's or LLaVA's own code wants it.

    huggingface   .safetensors       multi_modal_projector.linear_1.weight, .bias, linear_2...; read with `model.` too
    llava         mm_projector.bin   model.mm_projector.0.weight, .bias, 2...; a linear one: model.mm_projector.weight
    ours          .safetensors       linear_1.weight, ...: a checkpoint of a run

mm_projector.bin is what LLaVA's loader takes, a torch.save of a dictionary of tensors: the one file of ours that is a
pickle, written on request only, and read with weights-only loading. Weights are (out, in).
"""

import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.model.llava_folder import INDEX, opened, shards_by_tensor
from fedcmp.model.projector import Projector

KEY = "model.projector_from"
Naming = Literal["huggingface", "llava"]
FILE_NAMES: dict[Naming, str] = {"huggingface": "projector.safetensors", "llava": "mm_projector.bin"}
_HUGGINGFACE = re.compile(r"(?:.*\.)?multi_modal_projector\.(linear_\d+\.(?:weight|bias))|(linear_\d\.(?:weight|bias))")
_LLAVA = re.compile(r"(?:.*\.)?mm_projector\.(?:(\d+)\.)?(weight|bias)")
_ACTIVATION = "projector_hidden_act"


@dataclass(frozen=True)
class StoredProjector:
    """A projector as it was found.

    Attributes:
        place: its file or folder, for errors.
        tensors: "linear_1.weight", "linear_1.bias", "linear_2..." -> tensor.
        activation: between the two layers, where the place says so.
    """

    place: Path
    tensors: dict[str, Tensor]
    activation: str | None


def llava_projector_tensors(projector: Projector) -> dict[str, Tensor]:
    """Return the projector under LLaVA's four names; a linear one as two layers with the identity in between."""
    tensors = projector.tensors()
    if projector.linear_2 is None:
        width = projector.linear_1.out_features
        tensors |= {"linear_2.weight": torch.eye(width), "linear_2.bias": torch.zeros(width)}
    return tensors


def activation_of(projector: Projector) -> str:
    """Return what transformers calls the function between the layers."""
    return "gelu" if projector.kind == "mlp" else "linear"


def file_for(path: Path, naming: Naming) -> Path:
    """Return where a projector alone goes.

    Args:
        path: a file that ends in .safetensors (huggingface) or .bin (llava); any other name is a folder, in which the
            file gets its usual name.
        naming: "huggingface" or "llava".

    Raises:
        UserError: the file exists, or its name is of the other naming.
    """
    ending = Path(FILE_NAMES[naming]).suffix
    if path.suffix not in (".safetensors", ".bin"):
        path = path / FILE_NAMES[naming]
    if path.suffix != ending:
        raise UserError(f"{path}: --naming {naming} writes {ending} files; give such a name, or a folder")
    if path.exists():
        raise UserError(f"{path}: is there already; give another name or remove it")
    return path


def projector_file(projector: Projector, naming: Naming) -> bytes:
    """Return the content of a file with the projector alone: float32, the bits as they are."""
    if naming == "huggingface":
        named = {f"multi_modal_projector.{name}": tensor for name, tensor in llava_projector_tensors(projector).items()}
        content: bytes = save(named, metadata={"format": "pt", _ACTIVATION: activation_of(projector)})
        return content
    buffer = io.BytesIO()
    torch.save({_llava_name(name, projector.kind): tensor for name, tensor in projector.tensors().items()}, buffer)
    return buffer.getvalue()


def _llava_name(name: str, kind: str) -> str:
    layer, _, part = name.partition(".")
    number = "" if kind == "linear" else {"linear_1": "0.", "linear_2": "2."}[layer]
    return f"model.mm_projector.{number}{part}"


def read_projector(path: Path, *, key: str = KEY) -> StoredProjector:
    """Find a projector.

    Args:
        path: a LLaVA folder (whose weights go before an mm_projector.bin in it), a folder with mm_projector.bin or
            projector.safetensors, or one such file.
        key: the recipe key, for errors.

    Raises:
        UserError: nothing there, no projector in it, layers that no projector of ours has, or a pickle that holds more
            than tensors.
    """
    if path.is_dir():
        return _from_folder(path, key)
    if not path.is_file():
        raise UserError(
            f"{key} = {str(path)!r}: no such file or folder; give a LLaVA folder, a .safetensors or mm_projector.bin"
        )
    if path.suffix == ".safetensors":
        with opened(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if _own_name(name)}  # noqa: SIM118
            return _stored(path, tensors, (file.metadata() or {}).get(_ACTIVATION), key)
    return _stored(path, _unpickled(path, key), None, key)


def _from_folder(folder: Path, key: str) -> StoredProjector:
    whole = any((folder / name).is_file() for name in ("model.safetensors", INDEX))
    for name in FILE_NAMES.values():
        if (folder / name).is_file() and not whole:
            return read_projector(folder / name, key=key)
    tensors: dict[str, Tensor] = {}
    for name, shard in shards_by_tensor(folder, key).items():
        if _own_name(name):
            with opened(shard) as file:
                tensors[name] = file.get_tensor(name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    return _stored(folder, tensors, config.get(_ACTIVATION) if isinstance(config, dict) else None, key)


def _unpickled(path: Path, key: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: an error follows, or the tensors are read
            # LLaVA's own format is a pickle, read on request only; weights-only, so that nothing in it is run
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can break the reader in any way
        raise UserError(
            f"{key} = {str(path)!r}: is no dictionary of tensors that weights-only loading accepts; "
            "save it again with torch.save({name: tensor}), or as safetensors"
        ) from error
    named = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )
    if not named:
        raise UserError(f"{key} = {str(path)!r}: holds no dictionary of tensors; give LLaVA's mm_projector.bin")
    return dict(content)


def huggingface_name(name: str) -> str | None:
    """Return what a projector's tensor of a LLaVA checkpoint is in transformers' module; None for any other tensor."""
    found = _HUGGINGFACE.fullmatch(name)
    return found and found[1]


def _own_name(name: str) -> str | None:
    """Return what we call a tensor of a projector; None for any other tensor."""
    if found := _HUGGINGFACE.fullmatch(name):
        return found[1] or found[2]
    if found := _LLAVA.fullmatch(name):
        return f"linear_{int(found[1] or 0) / 2 + 1:g}.{found[2]}"  # 0, 2, ...: the layers; 1, 3, ...: GELU
    return None


def _stored(place: Path, tensors: Mapping[str, Tensor], activation: str | None, key: str) -> StoredProjector:
    named = {own: tensor for name, tensor in tensors.items() if (own := _own_name(name)) is not None}
    if not named:
        raise UserError(
            f"{key} = {str(place)!r}: holds no projector (multi_modal_projector.* or mm_projector.*); "
            "is it a LLaVA checkpoint?"
        )
    return StoredProjector(place, named, activation)


def start_from(projector: Projector, stored: StoredProjector, *, key: str = KEY) -> Projector:
    """Give a projector the stored one's weights.

    Args:
        projector: changed in place.
        stored: of the same kind and sizes; in any floating type.
        key: the recipe key, for errors.

    Raises:
        UserError: the stored one is of another kind, lacks a tensor, has one of another shape, or one with NaN.
    """
    place, tensors = f"{key} = {str(stored.place)!r}", dict(stored.tensors)
    kind = "linear" if stored.activation == "linear" or "linear_2.weight" not in tensors else "mlp"
    if kind == "linear" and _is_identity(tensors):
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("linear_1.")}
    if kind != projector.kind:
        raise UserError(f"{place}: holds a projector of kind {kind!r}, model.projector is {projector.kind!r}")
    if kind == "mlp" and stored.activation not in (None, "gelu"):
        raise UserError(f"{place}: has {stored.activation} between its layers; fedcmp's projector has gelu")
    wanted = projector.state_dict()
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise UserError(f"{place}: lacks {missing[0]} of the projector")
    if more := sorted(tensors.keys() - wanted.keys()):
        raise UserError(f"{place}: has {more[0]}, which a projector of kind {kind!r} has not")
    for name, tensor in wanted.items():
        found = tensors[name]
        if found.shape != tensor.shape:
            raise UserError(
                f"{place}: {name} is {tuple(found.shape)}, but model.vision and model.language need "
                f"{tuple(tensor.shape)}; it was trained for another encoder or LLM"
            )
        if not found.is_floating_point() or found.layout != torch.strided:
            raise UserError(f"{place}: {name} is no plain tensor of floating-point numbers ({found.dtype})")
        if not found.isfinite().all():
            raise UserError(f"{place}: {name} holds NaN or infinity")
    projector.load_state_dict({name: tensors[name].float() for name in wanted})
    return projector


def _is_identity(tensors: dict[str, Tensor]) -> bool:
    """Return whether the second layer changes nothing, as in a linear projector under LLaVA's names."""
    weight, bias = tensors.get("linear_2.weight"), tensors.get("linear_2.bias")
    return (
        weight is not None
        and bias is not None
        and weight.ndim == 2
        and weight.shape[0] == weight.shape[1]
        and torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype))
        and not bias.any()
    )
