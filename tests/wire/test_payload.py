"""Payload forms against a NumPy oracle, and the laws of error feedback."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from fedcmp.wire.payload import (
    BLOCK,
    SCALES,
    decode,
    difference,
    encode,
    encode_symmetric,
    encode_with_feedback,
    forms,
    moved,
    payload_bytes,
    wire_bytes,
)

SHAPES = {
    "linear_1.weight": (48, 20),
    "linear_1.bias": (48,),
    "linear_2.weight": (16, 48),
    "scalar": (),
    "none": (0, 3),
}


def tensors(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def int8_oracle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and what is decoded, one number at a time."""
    flat = values.astype(np.float32).ravel()
    codes, scales, decoded = np.zeros(flat.shape, np.int8), [], np.zeros(flat.shape, np.float32)
    for start in range(0, len(flat), BLOCK):
        stop = min(start + BLOCK, len(flat))
        scale = np.float32(max(abs(float(x)) for x in flat[start:stop])) / np.float32(127)
        scales.append(scale)
        for i in range(start, stop):
            codes[i] = round(float(flat[i] / scale)) if scale > 0 else 0  # Python rounds halves to even, as torch
            decoded[i] = np.float32(codes[i]) * scale
    return codes.reshape(values.shape), np.array(scales, np.float32), decoded.reshape(values.shape)


@pytest.mark.parametrize("seed", range(4))
def test_int8_is_what_the_oracle_says(seed):
    sent = tensors(seed, scale=10.0 ** (seed - 2))
    wire, back = encode(sent, "int8"), decode(encode(sent, "int8"))
    for name, tensor in sent.items():
        codes, scales, decoded = int8_oracle(tensor.numpy())
        assert wire[name].dtype == torch.int8
        np.testing.assert_array_equal(wire[name].numpy(), codes)
        np.testing.assert_array_equal(wire[name + SCALES].numpy(), scales)
        np.testing.assert_array_equal(back[name].numpy(), decoded)


def test_bfloat16_is_round_to_nearest_even_on_the_upper_half_of_the_bits():
    sent = tensors(5)
    back = decode(encode(sent, "bfloat16"))
    for name, tensor in sent.items():
        bits = tensor.numpy().view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32)
        np.testing.assert_array_equal(back[name].numpy(), rounded.view(np.float32))


def test_float32_travels_as_it_is():
    sent = tensors(6)
    wire = encode(sent, "float32")
    assert all(torch.equal(wire[name], tensor) for name, tensor in sent.items())
    assert all(torch.equal(decode(wire)[name], tensor) for name, tensor in sent.items())


@pytest.mark.parametrize("payload", ["float32", "bfloat16", "int8"])
def test_the_wire_is_safetensors_and_its_size_is_foretold(payload):
    wire = encode(tensors(7), payload)
    again = load(save(wire))
    assert {name: tensor.dtype for name, tensor in again.items()} == {n: t.dtype for n, t in wire.items()}
    assert all(torch.equal(tensor, wire[name]) for name, tensor in again.items())
    assert wire_bytes(wire) == payload_bytes(SHAPES, payload) == payload_bytes(list(SHAPES.values()), payload)


def test_bytes_of_llavas_projector():
    shapes = [(4096, 1024), (4096,), (4096, 4096), (4096,)]
    entries = 4096 * 1024 + 4096 + 4096 * 4096 + 4096
    assert [payload_bytes(shapes, form) for form in ("float32", "bfloat16", "int8")] == [
        4 * entries,
        2 * entries,
        entries + entries // 64,
    ]


numbers = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(numbers, min_size=1, max_size=3 * BLOCK + 5))
def test_what_is_decoded_is_near(values):
    tensor = torch.tensor(values, dtype=torch.float32)
    half = decode(encode({"x": tensor}, "bfloat16"))["x"]
    assert bool(((half - tensor).abs() <= 2.0**-8 * tensor.abs() * 1.0001 + 1e-38).all())
    back = decode(encode({"x": tensor}, "int8"))["x"]
    for start in range(0, len(values), BLOCK):
        block, decoded = tensor[start : start + BLOCK].double(), back[start : start + BLOCK].double()
        bound = float(block.abs().max()) / 254 * (1 + 1e-4) + 1e-37
        assert float((block - decoded).abs().max()) <= bound


@settings(max_examples=30, deadline=None)
@given(
    payload=st.sampled_from(["bfloat16", "int8"]),
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.sampled_from([1e-4, 1e-2, 1.0]), min_size=1, max_size=12),
)
def test_the_sum_of_what_arrives_is_the_sum_of_what_was_meant_less_the_last_residual(payload, seed, sizes):
    residual = None
    meant = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    arrived = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for number, size in enumerate(sizes):
        update = tensors(seed % 2**30 + number, size)
        wire, residual = encode_with_feedback(update, residual, payload)
        for name, tensor in decode(wire).items():
            arrived[name] = arrived[name] + tensor.double().numpy()
            meant[name] = meant[name] + update[name].double().numpy()
    rounding = 1e-6 * sum(sizes) * 6
    for name in SHAPES:
        np.testing.assert_allclose(arrived[name] + residual[name].double().numpy(), meant[name], atol=rounding)


def test_feedback_brings_what_a_large_entry_hides():
    """A step of 0.001 beside one of 1 is less than half a code: without feedback it never arrives."""
    update = {"x": torch.cat([torch.ones(1), torch.full((9,), 0.001)])}
    without = sum(decode(encode(update, "int8"))["x"] for _ in range(100))
    residual, with_feedback = None, torch.zeros(10)
    for _ in range(100):
        wire, residual = encode_with_feedback(update, residual, "int8")
        with_feedback += decode(wire)["x"]
    assert float(without[1:].abs().max()) == 0
    torch.testing.assert_close(with_feedback[1:], torch.full((9,), 0.1), atol=0.004, rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("payload", ["float32", "bfloat16", "int8"])
def test_what_is_not_finite_arrives_as_such_and_does_not_spoil_the_residual(bad, payload):
    update = tensors(8)
    _, residual = encode_with_feedback(update, None, payload)
    broken = {name: tensor.clone() for name, tensor in update.items()}
    broken["linear_1.weight"].view(-1)[300] = bad
    wire, kept = encode_with_feedback(broken, residual, payload)
    back = decode(wire)
    assert not back["linear_1.weight"].view(-1)[300].isfinite()
    assert back["linear_1.weight"].view(-1)[:BLOCK].isfinite().all()
    assert back["linear_2.weight"].isfinite().all()
    assert all(torch.equal(kept[name], residual[name]) for name in update)
    _, first = encode_with_feedback(broken, None, payload)
    assert all(float(tensor.abs().sum()) == 0 for tensor in first.values())


def test_an_update_is_the_way_from_one_projector_to_another():
    before, after = tensors(9), tensors(10)
    there = moved(before, difference(after, before))
    for name, tensor in after.items():
        torch.testing.assert_close(there[name], tensor)
    with pytest.raises(ValueError, match="the update holds"):
        moved(before, {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"linear_1.bias is \(3,\); it must be \(48,\)"):
        moved(before, difference(after, before) | {"linear_1.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"x": torch.zeros(3, dtype=torch.int8)}, "x: codes without their scales"),
        ({"x@scales": torch.zeros(3)}, "scales without codes"),
        ({"x": torch.zeros(3, dtype=torch.int8), "x@scales": torch.zeros(2)}, r"1 blocks need \(1,\)"),
        ({"x": torch.zeros(3, dtype=torch.int64)}, "no payload has that type"),
    ],
)
def test_a_wire_that_is_none_is_refused(wire, message):
    with pytest.raises(ValueError, match=message):
        decode(wire)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="only floating point"):
        encode({"x": torch.zeros(3, dtype=torch.int64)}, "int8")
    with pytest.raises(ValueError, match="reserved"):
        encode({"x@scales": torch.zeros(3)}, "int8")


def test_the_forms_of_a_recipe():
    usual = forms("float32")
    assert usual.whole
    assert (usual.update, usual.state, usual.extra) == ("float32", "float32", "float32")
    small = forms("int8")
    assert (small.update, small.state, small.extra, small.whole) == ("int8", "bfloat16", "bfloat16", False)
    assert forms("int8", "int8").state == "int8"
    assert not forms("float32", "bfloat16").whole  # the client's start is not the server's: it sends its update


@pytest.mark.parametrize("payload", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("size", [0, 1, 2, 33])
def test_half_of_a_symmetric_matrix_comes_back_whole(payload, size):
    generator = torch.Generator().manual_seed(size)
    half = torch.randn(size, size, generator=generator)
    sent = {"a.weight": half @ half.T, "b.weight": half + half.T}
    wire = encode_symmetric(sent, payload)
    back = decode(load(save(wire)))
    assert back.keys() == sent.keys()
    if payload == "float32":
        assert wire_bytes(wire) == 2 * 4 * size**2
    else:
        assert wire_bytes(wire) == payload_bytes([(size * (size + 1) // 2,)] * 2, payload)
    for name, tensor in sent.items():
        assert torch.equal(back[name], back[name].T)
        upper = torch.triu(decode(encode({name: tensor}, payload))[name]) if payload == "bfloat16" else None
        if upper is not None:
            assert torch.equal(torch.triu(back[name]), upper)
        largest = float(tensor.abs().max()) if size else 0.0
        assert torch.allclose(back[name], tensor, rtol=0.01, atol=largest / 200)


@pytest.mark.parametrize("size", [2, 5, 7])
def test_half_a_matrix_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"a@upper is .*not the half of a symmetric matrix"):
        decode({"a@upper": torch.zeros(size)})
    with pytest.raises(ValueError, match=r"a is \(2, 3\); half of it"):
        encode_symmetric({"a": torch.zeros(2, 3)}, "int8")
    with pytest.raises(ValueError, match="reserved"):
        encode({"a@upper": torch.zeros(3)}, "float32")
