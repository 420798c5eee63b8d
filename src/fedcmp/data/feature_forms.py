"""In which form features are stored: float32, bfloat16, float16, or one byte a number with a scale a token.

    int8           s = max |x| / 127 over a token's D numbers,  code = round(x / s),  read back as s * code
    float8_e4m3    s = max |x| / 448,  code = x / s with 4 significant bits: finer near zero, coarser near the maximum
Readers get float32 of these two. D + 4 bytes a token, against 2 D in float16.

Shapes: n pictures, P patches (visual tokens) a picture, D width of the vision encoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.references import FeatureDtype as FeatureDtype


@dataclass(frozen=True)
class FeatureForm:
    """One form.

    Attributes:
        stored: type of the numbers on disk.
        read: type that readers get.
        largest: what a token's largest number is scaled to; None: numbers are stored as they are.
    """

    stored: torch.dtype
    read: torch.dtype
    largest: float | None = None

    def token_bytes(self, width: int) -> int:
        """Bytes of one token's D numbers on disk, its scale with them."""
        return width * self.stored.itemsize + (0 if self.largest is None else 4)


FORMS: dict[str, FeatureForm] = {
    "float16": FeatureForm(torch.float16, torch.float16),
    "bfloat16": FeatureForm(torch.bfloat16, torch.bfloat16),
    "float32": FeatureForm(torch.float32, torch.float32),
    "float8_e4m3": FeatureForm(torch.float8_e4m3fn, torch.float32, 448.0),
    "int8": FeatureForm(torch.int8, torch.float32, 127.0),
}


def feature_form(name: str) -> FeatureForm:
    """Return the form of a recipe's name.

    Raises:
        UserError: a name that is not in FORMS.
    """
    if name not in FORMS:
        raise UserError(f"unknown feature_dtype {name!r}: choose {', '.join(FORMS)}")
    return FORMS[name]


def store_bytes(num_pairs: int, patches: int, width: int, feature_dtype: FeatureDtype) -> int:
    """Bytes that the features of so many pairs take on disk, headers not counted (16 are a row's index and check)."""
    return num_pairs * (patches * feature_form(feature_dtype).token_bytes(width) + 16)


def pack(features_nPD: Tensor, form: FeatureForm) -> tuple[Tensor, Tensor | None]:
    """Bring features, finite and in the form's read type, into their stored form.

    Returns:
        (n, P, D) numbers, and (n, P) float32 scales where the form has them.
    """
    if form.largest is None:
        return features_nPD, None
    scales_nP = features_nPD.abs().amax(-1) / form.largest
    divisors = torch.where(scales_nP > 0, scales_nP, torch.inf)[..., None]  # a token of zeros, or nearly
    scaled = (features_nPD / divisors).clamp(-form.largest, form.largest)
    return (scaled.round() if form.stored == torch.int8 else scaled).to(form.stored), scales_nP


def unpack(numbers_nPD: Tensor, scales_nP: Tensor | None) -> Tensor:
    """Return the features in the form's read type."""
    return numbers_nPD if scales_nP is None else numbers_nPD.to(torch.float32) * scales_nP[..., None]
