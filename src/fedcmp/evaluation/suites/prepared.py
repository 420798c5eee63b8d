"""Suites ready to be scored: items as token ids, pictures as frozen features that are computed once and kept.

    FOLDER/suites/mm-vet-test-KEY.safetensors     "features" (n, P, V x bytes), with a checksum; KEY: sha256 of the
                                                  encoder's fingerprint, the suite's frozen hash and the features' type

Shapes: n pictures of a suite, P patches, V vision width.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedcmp.data.checked import read_checked, write_checked
from fedcmp.data.feature_forms import FeatureDtype
from fedcmp.data.features import ImageEncoder, encode_pictures, torch_dtype
from fedcmp.errors import UserError
from fedcmp.evaluation.questions import continuation
from fedcmp.evaluation.suites.frozen import FROZEN
from fedcmp.evaluation.suites.items import Item
from fedcmp.evaluation.suites.table import SUITES, build_suite
from fedcmp.model.text_format import TextFormat

Progress = Callable[[str, int, int], None]
_ENCODE_BATCH = 128


@dataclass(frozen=True)
class PreparedSuite:
    """One suite.

    Attributes:
        name: one of SUITES.
        items: what is asked.
        prompts: token ids of each item's prompt.
        answers: token ids of each item's answer, as an LLM writes it after the prompt; none for an open one.
        options: of the items that rank them, token ids of each option.
        features: (n, P, V) of the pictures.
    """

    name: str
    items: list[Item]
    prompts: list[list[int]]
    answers: list[list[int]]
    options: list[list[list[int]]]
    features: Tensor


@dataclass(frozen=True)
class Suites:
    """The suites of one split, by name, and the tokenizer that their answers are read with."""

    split: str
    by_name: dict[str, PreparedSuite]
    tokenizer: Any

    def __getitem__(self, name: str) -> PreparedSuite:
        """One suite; KeyError names those that there are."""
        if name not in self.by_name:
            raise KeyError(f"no suite {name!r} was prepared: {', '.join(self.by_name)}")
        return self.by_name[name]


def prepare_suites(
    split: str,
    encoder: ImageEncoder,
    text: TextFormat,
    folder: Path,
    *,
    names: Iterable[str] = SUITES,
    feature_dtype: FeatureDtype = "float16",
    progress: Progress | None = None,
) -> Suites:
    """Draw and check the suites, compute the features that the folder does not hold yet.

    Args:
        split: "test" or "validation".
        encoder: the frozen encoder.
        text: the LLM's tokenizer and format, or the LLM itself.
        folder: the cache; `suites/` is made inside.
        names: which suites.
        feature_dtype: of the features.
        progress: called with what is being done, how much of it, out of how much.

    Raises:
        UserError: items that are not the frozen ones, or features that cannot be written.
        ValueError: no such suite or split.
    """
    return _suites(split, encoder.fingerprint(), encoder, text, folder, names, feature_dtype, progress)


def open_suites(
    split: str,
    encoder_fingerprint: str,
    text: TextFormat,
    folder: Path,
    *,
    names: Iterable[str] = SUITES,
    feature_dtype: FeatureDtype = "float16",
) -> Suites:
    """The suites that `prepare_suites` made, without an encoder: what a worker does.

    Raises:
        UserError: features that are not there, or damaged.
    """
    return _suites(split, encoder_fingerprint, None, text, folder, names, feature_dtype, None)


def _suites(
    split: str,
    fingerprint: str,
    encoder: ImageEncoder | None,
    text: TextFormat,
    folder: Path,
    names: Iterable[str],
    feature_dtype: FeatureDtype,
    progress: Progress | None,
) -> Suites:
    prepared: dict[str, PreparedSuite] = {}
    wanted = list(names)
    for done, name in enumerate(wanted):
        suite, images = build_suite(name, split)
        key = hashlib.sha256(f"{fingerprint} {FROZEN[name, split]} {feature_dtype}".encode()).hexdigest()
        path = folder / "suites" / f"{name}-{split}-{key[:16]}.safetensors"
        features = _kept(path, len(images), torch_dtype(feature_dtype))
        if features is None:
            if encoder is None:
                raise UserError(f"{path}: no features of suite {name} here, or damaged ones: prepare the suites first")
            features = _encode(encoder, images, torch_dtype(feature_dtype))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_checked(path, {"features": features.contiguous().view(torch.uint8).numpy()})
        prepared[name] = _prepared(name, suite.items, text, features)
        if progress is not None:
            progress("preparing suites", done + 1, len(wanted))
    return Suites(split, prepared, text.tokenizer)


def _kept(path: Path, count: int, dtype: torch.dtype) -> Tensor | None:
    """Features that were written before; None where they are missing or damaged."""
    kept = read_checked(path)
    if kept is None or "features" not in kept or len(kept["features"]) != count:
        return None
    return torch.from_numpy(kept["features"].copy()).view(dtype)


def _encode(encoder: ImageEncoder, images: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
    parts = [
        encode_pictures(encoder, [Image.fromarray(pixels) for pixels in images[i : i + _ENCODE_BATCH]], dtype=dtype)
        for i in range(0, len(images), _ENCODE_BATCH)
    ]
    return torch.cat(parts)


def _prepared(name: str, items: list[Item], text: TextFormat, features: Tensor) -> PreparedSuite:
    prompts: list[list[int]] = []
    answers: list[list[int]] = []
    options: list[list[list[int]]] = []
    continued = functools.cache(functools.partial(continuation, text.reader))  # many prompts occur often
    for item in items:
        asked = text.asked(item.prompt)
        prompt, answer = continued(asked, item.answer)
        prompts.append(prompt)
        answers.append(answer)
        ranked = item.options if item.how == "rank" else ()
        options.append([continued(asked, option)[1] for option in ranked])
    return PreparedSuite(name, items, prompts, answers, options, features)
