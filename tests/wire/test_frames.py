import io
import struct
import subprocess
import sys
import textwrap
from contextlib import suppress

import pytest
import torch

from fedcmp.wire.frames import body_bytes, header_bytes, read_body, read_frame, write_frame


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


def frame_of(head, body, *, head_length=None, body_length=None):
    lengths = struct.pack("<IQ", len(head) if head_length is None else head_length, body_length or len(body))
    return io.BytesIO(lengths + head + body)


@pytest.mark.parametrize(
    "stream",
    [
        frame_of(b"{not JSON", b""),
        frame_of(b"\xff\xfe", b""),
        frame_of(b"", b""),
        frame_of(b"[1, 2]", b""),
        frame_of(b"null", b""),
        frame_of(b"[" * 100_000, b""),
        frame_of(b"{}", b"no tensors"),
        frame_of(b"{}", struct.pack("<Q", 2**60) + b"{}"),
        frame_of(b"{}", struct.pack("<Q", 2) + b"{]"),
        frame_of(b"{}", b"", head_length=2**32 - 1),
        frame_of(b"{}", b"", body_length=2**63),
        io.BytesIO(b"\xff" * 12),
        io.BytesIO(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ],
)
def test_what_is_no_frame_is_refused(stream):
    with pytest.raises(ValueError, match=r"^malformed frame: "):
        read_frame(stream)


def test_every_cut_of_a_frame_says_that_the_other_side_has_gone():
    whole = io.BytesIO()
    write_frame(whole, {"op": "train"}, {"a": torch.zeros(8)})
    for length in range(len(whole.getvalue())):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(whole.getvalue()[:length]))


def test_a_frame_that_is_damaged_anywhere_is_read_or_refused_and_nothing_else():
    whole = io.BytesIO()
    write_frame(whole, {"op": "train"}, {"a": torch.zeros(8), "b": torch.zeros(2, dtype=torch.uint8)})
    for place in range(len(whole.getvalue())):
        for value in (0, 0x22, 0x7F, 0xFF):
            damaged = bytearray(whole.getvalue())
            damaged[place] = value
            with suppress(ValueError, EOFError):
                read_frame(io.BytesIO(damaged))


def test_a_length_takes_no_memory_before_its_bytes_are_there():
    """A quarter of a TiB is promised, in a process that may have 4 GiB."""
    program = """
        import io, resource, struct
        from fedcmp.wire.frames import MOST_BODY_BYTES, read_frame
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        try:
            read_frame(io.BufferedReader(io.BytesIO(struct.pack("<IQ", 2, MOST_BODY_BYTES) + b"{}" + bytes(1000))))
        except EOFError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.stdout == "the other side has gone\n", done.stderr


def test_raw_bytes_and_halves_travel_as_they_are():
    stream = io.BytesIO()
    tensors = {"files": torch.arange(256, dtype=torch.uint8), "vectors": torch.randn(3, 5).half()}
    write_frame(stream, {}, tensors)
    stream.seek(0)
    _, back = read_frame(stream)
    assert all(back[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in tensors.items())


def test_a_list_of_tensors_that_is_too_long_is_refused_by_its_length():
    """A hundred thousand empty tensors are a few MB on the wire, and seconds and hundreds of MB when they are read."""
    body = body_bytes({f"tensor-{number}": torch.zeros(0) for number in range(10)})
    stream = io.BytesIO(struct.pack("<IQ", 2, len(body)) + b"{}" + body)
    for read in (lambda: read_body(body, most_names=200), lambda: read_frame(stream, most_names=200)):
        with pytest.raises(ValueError, match=r"^malformed frame: its body claims a list of tensors of [0-9,]+ bytes"):
            read()
    assert len(read_body(body)) == 10
    assert read_body(body_bytes({"a": torch.zeros(3)})).keys() == {"a"}
    assert read_body(b"") == {}


def test_a_reader_may_take_less_than_a_frame_can_hold():
    stream = io.BytesIO()
    write_frame(stream, {"op": "x" * 100}, {"a": torch.zeros(100)})
    for bounds in ({"most_header": 50}, {"most_body": 100}):
        stream.seek(0)
        with pytest.raises(ValueError, match=r"^malformed frame: it claims a header of 110 bytes"):
            read_frame(stream, **bounds)
    stream.seek(0)
    assert read_frame(stream, most_header=110, most_body=1000)[0] == {"op": "x" * 100}


def test_header_and_body_are_the_bytes_that_travel():
    stream, header, tensors = io.BytesIO(), {"op": "é"}, {"a": torch.zeros(3), "b": torch.ones(2)}
    write_frame(stream, header, tensors)
    assert stream.getvalue()[12:] == header_bytes(header) + body_bytes(tensors)
