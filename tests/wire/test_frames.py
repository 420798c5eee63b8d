import io

import pytest
import torch

from fedcmp.wire.frames import read_frame, write_frame


def test_frames_come_back_bit_for_bit():
    stream = io.BytesIO()
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor([1, 2]), "c": torch.randn(2).bfloat16()}
    write_frame(stream, {"op": "train", "client": 3}, tensors)
    write_frame(stream, {"op": "none"}, {})
    stream.seek(0)
    header, back = read_frame(stream)
    assert header == {"op": "train", "client": 3}
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert read_frame(stream) == ({"op": "none"}, {})


def test_tensors_that_share_memory_travel_apart():
    """As in the first round of local-only clients that share a cohort: all start from one projector."""
    stream, whole = io.BytesIO(), torch.randn(4, 3)
    tensors = {"client-0/a": whole, "client-1/a": whole, "part": whole[1:3], "turned": whole.T}
    tensors |= {"none": torch.empty(0), "nothing": torch.empty(0, 2)}
    write_frame(stream, {}, tensors)
    stream.seek(0)
    _, back = read_frame(stream)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_a_torn_frame_says_that_the_other_side_has_gone():
    stream = io.BytesIO()
    write_frame(stream, {"op": "train"}, {"a": torch.zeros(8)})
    torn = io.BytesIO(stream.getvalue()[:-3])
    with pytest.raises(EOFError):
        read_frame(torn)
    with pytest.raises(EOFError):
        read_frame(io.BytesIO())
