"""The stored forms of features against NumPy, and the stores that hold them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fedcmp.data.feature_forms import FORMS, feature_form, pack, store_bytes, unpack
from fedcmp.data.store import build_feature_store, ensure_feature_store, feature_key, open_feature_store, store_folder
from fedcmp.errors import UserError

from .helpers import FakeEncoder, list_source

EIGHT_BITS = ["float8_e4m3", "int8"]


def e4m3_values() -> np.ndarray:
    """All non-negative numbers of the format, from its definition: 4 exponent bits (bias 7), 3 of the significand."""
    small = [m / 8 * 2.0**-6 for m in range(8)]
    return np.array(small + [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1])


def oracle(features_nPD: np.ndarray, name: str) -> np.ndarray:
    out = np.zeros_like(features_nPD)
    values = e4m3_values()
    for place in np.ndindex(features_nPD.shape[:2]):
        token = features_nPD[place]
        scale = np.float32(np.abs(token).max() / np.float32(127 if name == "int8" else 448))
        for d, number in enumerate(token):
            if scale == 0:
                continue
            scaled = number / scale
            if name == "int8":
                code = np.rint(scaled)
            else:
                code = np.sign(scaled) * values[np.abs(values - abs(scaled)).argmin()]
            out[(*place, d)] = np.float32(code) * scale
    return out


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_packing_is_what_the_oracle_says(name):
    features = (
        torch.randn(3, 4, 33, generator=torch.Generator().manual_seed(1)) * torch.tensor([1e-3, 1, 40, 0])[:, None]
    )
    form = feature_form(name)
    numbers, scales = pack(features, form)
    assert (numbers.dtype, numbers.shape, scales.shape) == (form.stored, (3, 4, 33), (3, 4))
    back = unpack(numbers, scales)
    assert back.dtype == torch.float32
    np.testing.assert_allclose(back.numpy(), oracle(features.numpy(), name), rtol=1e-6, atol=1e-12)
    assert not back[:, 3].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_what_is_read_back_is_near(values):
    token = torch.tensor(values, dtype=torch.float32)[None, None]
    largest = float(token.abs().max())
    back = unpack(*pack(token, FORMS["int8"]))
    assert float((back - token).abs().max()) <= largest / 254 * 1.0001 + 1e-37
    back = unpack(*pack(token, FORMS["float8_e4m3"]))
    bound = torch.maximum(token.abs() / 16, torch.tensor(largest / 448 * 2.0**-10))  # half a step; steps below 2^-6
    assert bool(((back - token).abs() <= bound * 1.0001 + 1e-37).all())


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_wider_forms_have_no_scales(name):
    features = torch.randn(2, 3, 4).to(feature_form(name).read)
    numbers, scales = pack(features, feature_form(name))
    assert scales is None
    assert torch.equal(unpack(numbers, scales), features)


def built(folder: Path, name: str, **options: int):
    return build_feature_store(
        list_source(20, missing=(4, 11)), FakeEncoder(), folder, feature_dtype=name, max_bad_fraction=0.2, **options
    )


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_a_store_gives_what_packing_gives_whatever_its_shards(tmp_path, name):
    exact = built(tmp_path / "exact", "float32")
    expected = unpack(*pack(exact.features(exact.indices), feature_form(name)))
    for size in (6, 50):
        store = built(tmp_path / str(size), name, shard_size=size, batch_size=4)
        assert store.dtype == torch.float32
        assert torch.equal(store.features(store.indices), expected)
        assert torch.equal(store.features([19, 0, 5]), expected[[17, 0, 4]])
        assert torch.equal(store.features([1, 2]), expected[[1, 2]])
        assert store.features([]).shape == (0, 4, 3)
        assert torch.equal(open_feature_store(tmp_path / str(size), store.key, verify=True).features([0]), expected[:1])
        tensors = [load_file(path) for path in store_folder(tmp_path / str(size), store.key).glob("*.safetensors")]
        assert sum(t.nbytes for each in tensors for t in each.values()) == store_bytes(18, 4, 3, name)


def test_forms_have_stores_of_their_own():
    source, encoder = list_source(3), FakeEncoder()
    assert len({feature_key(encoder, source, name) for name in FORMS}) == len(FORMS) == 5


def test_eight_bits_take_half_of_sixteen():
    assert store_bytes(1000, 576, 1024, "int8") / store_bytes(1000, 576, 1024, "float16") == pytest.approx(
        0.502, abs=5e-4
    )


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_a_store_of_another_form_or_without_its_scales_is_refused_and_mended(tmp_path, name):
    store = built(tmp_path, name, shard_size=6)
    target = store_folder(tmp_path, store.key)
    index, path = target / "index.json", target / "shard-00001.safetensors"
    whole, shard = index.read_bytes(), path.read_bytes()
    other = "int8" if name == "float8_e4m3" else "float8_e4m3"
    for wrong, message in ((other, r"not \(n, P, D\)"), ("float16", r"not \(n, P, D\)")):
        index.write_text(json.dumps(json.loads(whole) | {"dtype": wrong}))
        with pytest.raises(UserError, match=message):
            open_feature_store(tmp_path, store.key)
    index.write_bytes(whole)
    tensors = load_file(path)
    metadata = header(path)
    save_file({key: tensors[key] for key in ("features", "index", "checks")}, path, metadata)
    torn(tmp_path, store.key, index, path, "is without scales")
    save_file({key: tensors[key] for key in ("features", "index", "scales")}, path, metadata)
    torn(tmp_path, store.key, index, path, "checks")
    save_file(tensors | {"scales": tensors["scales"][:, :2].contiguous()}, path, metadata)
    torn(tmp_path, store.key, index, path, "scales that do not fit")
    save_file(tensors | {"scales": tensors["scales"] * 2}, path, metadata)
    with pytest.raises(UserError, match="other bytes than its checksum says"):
        open_feature_store(tmp_path, store.key, verify=True)
    source = list_source(20, missing=(4, 11))
    build_feature_store(source, FakeEncoder(), tmp_path, feature_dtype=name, max_bad_fraction=0.2)
    assert source.reads == list(range(6, 12))
    assert path.read_bytes() == shard


def header(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()


def torn(folder: Path, key: str, index: Path, path: Path, message: str) -> None:
    """Even where index.json agrees with the file's size."""
    content = json.loads(index.read_text())
    content["shards"][1]["bytes"] = path.stat().st_size
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        open_feature_store(folder, key)


def test_a_store_that_is_there_is_opened(tmp_path):
    built(tmp_path, "int8")
    encoder, source = FakeEncoder(), list_source(20, missing=(4, 11))
    ensure_feature_store(source, encoder, tmp_path, feature_dtype="int8", max_bad_fraction=0.2)
    assert (source.reads, encoder.seen) == ([], 0)


def test_an_unknown_form_is_refused():
    with pytest.raises(UserError, match="unknown feature_dtype 'int4': choose float16, bfloat16"):
        feature_form("int4")
