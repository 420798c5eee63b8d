"""One of our messages in one of Flower's, as bytes."""

import subprocess
import sys

import pytest

pytest.importorskip("flwr")
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedcmp.federation.flower import envelope
from fedcmp.federation.flower.envelope import packed, packed_body, unpacked, with_header


@pytest.mark.parametrize("header", [b"{}", '{"reason": "é"}'.encode(), b"x" * 1000])
@pytest.mark.parametrize("body", [b"", b"\0\xff" * 500])
def test_what_is_packed_is_unpacked_to_the_byte(header, body):
    assert unpacked(packed(header, body)) == (header, body)


def test_messages_may_share_a_body():
    body = packed_body(b"abc")
    first, second = with_header(b"1", body), with_header(b"2", body)
    assert (unpacked(first), unpacked(second)) == ((b"1", b"abc"), (b"2", b"abc"))
    assert first["body"] is second["body"]


def array(data=b"abc", dtype="uint8"):
    return Array(dtype=dtype, shape=(len(data),), stype="bytes", data=data)


def content(**records):
    return RecordDict(records)


HEADER = ConfigRecord({"json": "{}"})
MALFORMED = {
    "nothing": content(),
    "no header": content(body=ArrayRecord({"safetensors": array()})),
    "a header of arrays": content(header=ArrayRecord({"json": array()})),
    "a header of metrics": content(header=MetricRecord({"json": 1.0})),
    "a header without text": content(header=ConfigRecord({})),
    "a header that is a number": content(header=ConfigRecord({"json": 1})),
    "a header that is bytes": content(header=ConfigRecord({"json": b"{}"})),
    "a header with half a character": content(header=ConfigRecord({"json": "\ud800"})),
    "a body of settings": content(header=HEADER, body=ConfigRecord({"safetensors": b"abc"})),
    "an empty body": content(header=HEADER, body=ArrayRecord({})),
    "two arrays": content(header=HEADER, body=ArrayRecord({"safetensors": array(), "more": array()})),
    "an array of another name": content(header=HEADER, body=ArrayRecord({"pickle": array()})),
    "an array of numbers": content(header=HEADER, body=ArrayRecord({"safetensors": array(dtype="float32")})),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_what_is_none_of_ours_is_refused(message):
    with pytest.raises(ValueError, match=r"malformed message|surrogates not allowed"):
        unpacked(message)


def test_header_and_body_have_their_bounds(monkeypatch):
    monkeypatch.setattr(envelope, "MOST_HEADER", 10)
    monkeypatch.setattr(envelope, "MOST_BODY", 20)
    assert unpacked(packed(b"x" * 10, b"y" * 20))
    with pytest.raises(ValueError, match="a header of 11 bytes; at most 10"):
        unpacked(packed(b"x" * 11, b""))
    with pytest.raises(ValueError, match="a body of 21 bytes; at most 20"):
        unpacked(packed(b"{}", b"y" * 21))


def test_a_clientapp_loads_no_torch():
    """It is a new process for every message."""
    code = "import sys, fedcmp.federation.flower.client_app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
