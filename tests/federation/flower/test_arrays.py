"""Tensors through Flower's records and back, bit for bit; what is not honest is refused by name."""

import io

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.federation.flower import array_record, tensors_of
from tests.federation.flower.apps import broken

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4)], ids=str)
def test_every_dtype_and_shape_returns_as_it_was(dtype, shape):
    tensor = (torch.arange(24, dtype=torch.float64)[: int(np.prod(shape))] * 0.37 - 1).to(dtype).reshape(shape)
    (back,) = tensors_of(array_record({"a": tensor})).values()
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert torch.equal(back, tensor)
    back.add_(1) if dtype != torch.bool else back.fill_(True)  # memory of its own, fit for writing


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=20))
def test_every_bit_pattern_of_bfloat16_survives(codes):
    tensor = torch.from_numpy(np.array(codes, dtype=np.uint16).view(np.int16)).view(torch.bfloat16)
    back = tensors_of(array_record({"a": tensor}))["a"]
    assert torch.equal(back.view(torch.int16), tensor.view(torch.int16))


def test_bfloat16_survives_flowers_own_serialisation():
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    record = array_record({"a": torch.tensor([1.5, -0.25], dtype=torch.bfloat16)})
    children = {name: Array.inflate(one.deflate(), one.children) for name, one in record.children.items()}
    assert get_all_nested_objects(record)
    back = ArrayRecord.inflate(record.deflate(), children)
    assert tensors_of(back)["a"].tolist() == [1.5, -0.25]


def test_flowers_own_reader_refuses_bfloat16_rather_than_misread_it():
    record = array_record({"a": torch.ones(2, dtype=torch.bfloat16)})
    with pytest.raises(TypeError, match=r"fedcmp\.bfloat16"):
        record.to_torch_state_dict()


def test_transposed_and_strided_tensors_and_flowers_own_records():
    matrix = torch.arange(12.0).reshape(3, 4)
    for tensor in (matrix.T, matrix[:, ::2], matrix[1:]):
        assert torch.equal(tensors_of(array_record({"a": tensor}))["a"], tensor)
        assert torch.equal(tensors_of(ArrayRecord({"a": Array(tensor.numpy())}))["a"], tensor)
    foreign = ArrayRecord({"a": Array(np.asfortranarray(np.arange(6.0).reshape(2, 3)).astype(">f4"))})
    assert tensors_of(foreign)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def npy(header_shape, content=b"", dtype="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": header_shape})
    return stream.getvalue() + content


HUGE = 1 << 40


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": b""}, "a cannot be read"),
        ({"data": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70000}, "a cannot be read"),
        ({"data": npy((HUGE,)), "shape": (HUGE,)}, "0 bytes are no float32"),
        ({"data": npy((-2, -1), b"\0" * 8), "shape": (-2, -1)}, "shape"),
        ({"data": npy((2,), b"\0" * 7)}, "7 bytes are no float32"),
        ({"data": npy((2,), b"\0" * 16, "<f8")}, "it says float32"),
        ({"data": npy((2,), b"\0" * 16, "|O"), "dtype": "object"}, "a cannot be read"),
        ({"data": npy((2,), b"a\0b\0", "|S2"), "dtype": "|S2"}, "a cannot be read"),
        ({"shape": (3,)}, "it says float32"),
        ({"stype": "pickle"}, "serialised as 'pickle'"),
        ({"stype": "fedcmp.bfloat16", "data": b"\0" * 3}, "a cannot be read"),
        ({"stype": "fedcmp.bfloat16", "data": b"\0" * 4, "shape": (HUGE,)}, "a cannot be read"),
    ],
)
def test_dishonest_arrays_are_refused_by_name(fields, said):
    record = broken(array_record({"a": torch.ones(2)}), "a", **fields)
    with pytest.raises(ValueError, match=r"^a ") as caught:
        tensors_of(record)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=200), st.lists(st.integers(-3, 9), max_size=3), st.sampled_from(["float32", "bfloat16", ""]))
def test_any_bytes_give_a_tensor_or_a_named_refusal(data, shape, dtype):
    for stype in ("numpy.ndarray", "fedcmp.bfloat16", "x"):
        record = ArrayRecord({"a": Array(dtype=dtype, shape=tuple(shape), stype=stype, data=data)})
        try:
            found = tensors_of(record)["a"].shape
        except ValueError as error:
            said = str(error)
        else:
            assert found == tuple(shape)
            continue
        assert said.startswith("a ")
