"""Features in passing, and their equality with stored ones."""

import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fedcmp.data.feature_forms import feature_form, pack, unpack
from fedcmp.data.features import (
    FeatureSource,
    OnTheFlyFeatures,
    decoded,
    encode_pictures,
    feature_shape,
    torch_dtype,
)
from fedcmp.data.quality import BadPair, BadPairs
from fedcmp.data.store import build_feature_store
from fedcmp.errors import UserError

from .helpers import FakeEncoder, list_source, picture


def expected(number: int, dtype: torch.dtype) -> Tensor:
    """The fake encoder's features in NumPy: means over the quarters of the 8 x 8 picture, as shares of 255."""
    pixels = np.asarray(picture(number), np.int64)
    quarters = [pixels[y : y + 4, x : x + 4].sum((0, 1)) for y in (0, 4) for x in (0, 4)]
    return torch.from_numpy(np.stack(quarters).astype(np.float32) / np.float32(4080)).to(dtype)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float8_e4m3", "int8"])
def test_store_and_passing_give_the_same_numbers(tmp_path: Path, name: str) -> None:
    source = list_source(23, missing=(5, 9))
    sources: list[FeatureSource] = [
        build_feature_store(
            source, FakeEncoder(), tmp_path, feature_dtype=name, shard_size=7, batch_size=3, max_bad_fraction=0.1
        ),
        OnTheFlyFeatures(source, FakeEncoder(), feature_dtype=name, batch_size=4),
    ]
    wanted = np.array([22, 0, 9, 13, 5, 1, 22])
    for features in sources:
        kept, rows = features.gather(wanted)
        assert kept.tolist() == [22, 0, 13, 1, 22]
        assert rows.dtype == features.dtype == torch_dtype(name)
        meant = torch.stack([expected(number, features.dtype) for number in kept.tolist()])
        assert torch.equal(rows, unpack(*pack(meant, feature_form(name))))
        assert torch.equal(features.features([13, 1]), rows[2:4])
        assert features.features(np.array([], np.int64)).shape == (0, 4, 3)
        none, nothing = features.gather([5])
        assert (len(none), nothing.shape) == (0, (0, 4, 3))
        with pytest.raises(ValueError, match="bad"):
            features.features([1, 9])


def test_a_bad_picture_is_counted_once_in_a_pass() -> None:
    source = list_source(10, missing=(2, 3))
    ledger = BadPairs("list", total=10, max_bad_fraction=0.2)
    features = OnTheFlyFeatures(source, FakeEncoder(), bad_pairs=ledger)
    features.gather(range(5))
    features.gather(range(5))
    assert [bad.place for bad in ledger.rejected] == ["list[2]", "list[3]"]
    assert source.reads.count(2) == 1
    source.images[7] = None
    with pytest.raises(UserError, match="3 of 10"):
        features.gather([6, 7])


def test_decoding_ahead_keeps_the_order() -> None:
    source = list_source(50, missing=(0, 31))
    for threads in (1, 3):
        found = list(decoded(source, range(49, -1, -1), max_pixels=1000, threads=threads))
        assert [index for index, _ in found] == list(range(49, -1, -1))
        assert [index for index, item in found if isinstance(item, BadPair)] == [31, 0]
        assert all(item.tobytes() == picture(index).tobytes() for index, item in found if isinstance(item, Image.Image))


def test_pictures_are_resized_where_they_are_decoded() -> None:
    class Halving(FakeEncoder):
        threads: ClassVar[set[int]] = set()

        def resized(self, image: Image.Image) -> Image.Image:
            self.threads.add(threading.get_ident())
            return image.resize((image.width // 2, image.height // 2))

        def encode(self, images: list[Image.Image]) -> Tensor:
            assert all(image.size == (picture(0).width // 2, picture(0).height // 2) for image in images)
            return super().encode(images)

    alone, together = (OnTheFlyFeatures(list_source(40), Halving(), decode_threads=n).gather(range(40)) for n in (1, 3))
    assert threading.get_ident() in Halving.threads
    assert len(Halving.threads) > 1
    assert torch.equal(alone[1], together[1])


class Constant(FakeEncoder):
    def __init__(self, value: float, shape: tuple[int, ...]):
        super().__init__()
        self.value, self.shape = value, shape

    def encode(self, images: list[Image.Image]) -> Tensor:
        return torch.full((len(images), *self.shape), self.value, requires_grad=True)


def test_outputs_that_do_not_fit() -> None:
    images = [picture(0), picture(1)]
    assert not encode_pictures(Constant(1.0, (4, 3)), images, dtype=torch.float32).requires_grad
    assert feature_shape(Constant(1.0, (4, 3))) == (4, 3)
    with pytest.raises(UserError, match=r"reach 1e\+05, too large for float16: set feature_dtype to bfloat16"):
        encode_pictures(Constant(1e5, (4, 3)), images, dtype=torch.float16)
    assert encode_pictures(Constant(1e5, (4, 3)), images, dtype=torch.bfloat16).isfinite().all()
    with pytest.raises(ValueError, match="NaN or infinity"):
        encode_pictures(Constant(float("nan"), (4, 3)), images, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"\(2, 4\) for 2 pictures"):
        encode_pictures(Constant(1.0, (4,)), images, dtype=torch.float16)
    with pytest.raises(UserError, match="unknown feature_dtype 'int4'"):
        torch_dtype("int4")
