"""The names that records in the wild use for an image and its caption."""

from typing import Any

import pytest

from fedcmp.data.quality import BadPair
from fedcmp.data.record_fields import FURTHER, LATER, key_of, read_fields

ASKED = {"from": "human", "value": "<image>\nDescribe it."}


@pytest.mark.parametrize(
    "image",
    [
        {"image": "a/b.png"},
        {"images": ["a/b.png"]},
        {"images": "a/b.png"},
        {"images": [{"path": "a/b.png", "bytes": None}]},
        {"image": None, "images": ["a/b.png"]},
        {"image": {"path": "./a//b.png"}},
        {"file_name": "a/b.png"},
        {"image_path": "a\\b.png"},
        {"img": "a/b.png"},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a/b.png"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a/b.png"}}]}]},
    ],
)
def test_where_an_image_is_named(image: dict[str, Any]) -> None:
    assert read_fields({"caption": "a cat", **image}).image == "a/b.png"
    assert key_of({"id": 7, **image}) == "7"


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"caption": "a cat"}, {}),
        ({"caption": ["a cat", "a dog"]}, {FURTHER: 1}),
        ({"captions": ["", "a cat", "a dog"]}, {FURTHER: 2}),
        ({"text": "a cat"}, {}),
        ({"sentences": [{"raw": "a cat", "tokens": ["a", "cat"]}, {"raw": "a dog"}]}, {FURTHER: 1}),
        ({"conversations": [ASKED, {"from": "gpt", "value": "a cat"}]}, {}),
        (
            {"conversations": [ASKED, {"from": "gpt", "value": "a cat"}, ASKED, {"from": "gpt", "value": "no"}]},
            {LATER: 1},
        ),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a cat"}]}, {}),
        ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}]}, {}),
        ({"texts": [{"user": "?", "assistant": "a cat"}, {"user": "?", "assistant": "yes"}]}, {LATER: 1}),
        ({"query": "<image>?", "response": "a cat"}, {}),
        ({"conversations": [ASKED, {"from": "GPT", "content": "a cat"}]}, {}),
    ],
)
def test_where_a_caption_is(fields: dict[str, Any], ignored: dict[str, int]) -> None:
    found = read_fields({"image": "a.png", **fields})
    assert (found.caption, +found.ignored) == ("a cat", ignored)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "malformed record"),
        ({"image": 3, "caption": "a"}, "malformed record"),
        ({"image": "https://example.org/a.png", "caption": "a"}, "malformed record"),
        ({"images": ["a.png", "b.png"], "caption": "a"}, "several images"),
        ({"images": "../a.png", "caption": "a"}, "path outside the folder"),
        ({"image": "a.png", "caption": ["", " "]}, "empty caption"),
        ({"image": "a.png", "conversations": ["what is it?", "a cat"]}, "no caption"),
        ({"image": "a.png", "messages": [{"role": "assistant", "content": []}]}, "no caption"),
        ({"picture_of_it": "a.png", "caption": "a"}, "no image"),
        ({"conversations": [ASKED, {"from": "gpt", "value": "a cat"}]}, "no image"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "caption": "a"}, "no image"),
    ],
)
def test_what_cannot_be_used_says_why(record: Any, reason: str) -> None:
    with pytest.raises(BadPair) as caught:
        read_fields(record)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello."}]},
        {"image": "", "caption": "words"},
        {"images": [], "messages": [{"role": "user", "content": "?"}]},
    ],
)
def test_a_text_is_no_lost_image(record: dict[str, Any]) -> None:
    assert read_fields(record).image is None


def test_half_an_emoji_is_taken_out_of_ids_and_groups() -> None:
    record = {"id": "post \ud83d1", "image": "\ud83d.png", "caption": "a", "group": "x\ud800\ny\x1b[31m"}
    assert key_of(record) == "post 1"
    assert key_of({"image": "\ud83d.png"}) == ".png"
    assert key_of({"id": "\ud83d"}) == "-"
    assert read_fields(record).group == "x y[31m"
    assert read_fields({"image": "a.png", "caption": "a", "group": "\ud83d"}).group is None
