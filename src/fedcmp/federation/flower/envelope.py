"""One of our messages in one of Flower's, as bytes: the JSON header, and the body that wire/frames.py would write.

    content["header"]   ConfigRecord  {"json": ...}
    content["body"]     ArrayRecord   {"safetensors": (n,) uint8}; absent where a message has no tensors

Loads no torch: a site's ClientApp is a new process for every message.
"""

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedcmp.wire.site_limits import MOST_BODY, MOST_HEADER

_HEADER, _BODY, _JSON, _NAME = "header", "body", "json", "safetensors"


def packed(header: bytes, body: bytes) -> RecordDict:
    """Return the content of a Flower message."""
    return with_header(header, packed_body(body))


def packed_body(body: bytes) -> ArrayRecord | None:
    """Return a body as Flower holds it; messages may share it."""
    if not body:
        return None
    return ArrayRecord({_NAME: Array(dtype="uint8", shape=(len(body),), stype="bytes", data=body)})


def with_header(header: bytes, body: ArrayRecord | None) -> RecordDict:
    """Return the content of a Flower message from a header and a packed body."""
    content = RecordDict({_HEADER: ConfigRecord({_JSON: header.decode()})})
    if body is not None:
        content[_BODY] = body
    return content


def unpacked(content: RecordDict) -> tuple[bytes, bytes]:
    """Return header and body of a Flower message.

    Raises:
        ValueError: it is none of ours.
    """
    header = content.get(_HEADER)
    if not isinstance(header, ConfigRecord) or not isinstance(header.get(_JSON), str):
        raise ValueError("malformed message: it has no header")
    head = str(header[_JSON]).encode()
    if len(head) > MOST_HEADER:
        raise ValueError(f"malformed message: a header of {len(head):,} bytes; at most {MOST_HEADER:,}")
    body = content.get(_BODY)
    if body is None:
        return head, b""
    if not isinstance(body, ArrayRecord) or set(body) != {_NAME} or body[_NAME].dtype != "uint8":
        raise ValueError("malformed message: its body is not one array of bytes")
    data = body[_NAME].data
    if len(data) > MOST_BODY:
        raise ValueError(f"malformed message: a body of {len(data):,} bytes; at most {MOST_BODY:,}")
    return head, data
