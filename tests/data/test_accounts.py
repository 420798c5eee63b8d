"""Pairs read = used + refused by reason + not used by rule, in every format."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedcmp.data.accounts import BEYOND, Account, account_of, log_accounts
from fedcmp.data.pairs import OpenedPairs, first_pairs, open_pairs
from fedcmp.data.quality import Rejected

from .helpers import ListSource, conversation, encoded, picture, write_llava, write_tar
from .test_parquet import write

KINDS = ["good", "bad", "text", "good", "text", "bad", "good", "good"]


def llava(folder: Path) -> OpenedPairs:
    records: list[Any] = []
    for n, kind in enumerate(KINDS):
        image = {} if kind == "text" else {"images": [f"{n}.png"]}
        caption = " " if kind == "bad" else f"caption {n}"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": caption}] * 2
        records.append({"id": n, "messages": turns, **image})
    return open_pairs("llava", write_llava(folder, records))


def webdataset(folder: Path) -> OpenedPairs:
    samples: list[dict[str, bytes]] = []
    for n, kind in enumerate(KINDS):
        image = encoded(picture(n))
        texts = [] if kind == "bad" else [f"caption {n}", "another"]
        if kind != "text":  # a tar's rules leave out no pair
            record = json.dumps({"captions": texts}).encode()
            samples.append({"__key__": f"v1.{n}", "png": image, "json": record, "npy": b"-"})
    return open_pairs("webdataset", write_tar(folder / "s.tar", samples))


def parquet(folder: Path) -> OpenedPairs:
    columns = {
        "jpg": [None if kind == "text" else encoded(picture(n)) for n, kind in enumerate(KINDS)],
        "caption": [" " if kind == "bad" else f"caption {n}" for n, kind in enumerate(KINDS)],
        "status": ["failed_to_download" if kind == "text" else "success" for kind in KINDS],
        "error_message": [None] * len(KINDS),
    }
    return open_pairs("parquet", write(folder / "a.parquet", columns))


@pytest.mark.parametrize(
    ("made", "read", "refused", "unused", "ignored"),
    [
        (llava, 8, {"empty caption": 2}, {"text only": 2}, {"later turns of a conversation": 4}),
        (webdataset, 6, {"no caption": 2}, {}, {".npy members": 6, "further captions of an image": 4}),
        (parquet, 8, {"empty caption": 2}, {"not downloaded": 2}, {}),
    ],
)
def test_every_pair_is_somewhere(
    tmp_path: Path, made: Any, read: int, refused: dict[str, int], unused: dict[str, int], ignored: dict[str, int]
) -> None:
    source = made(tmp_path)
    account = account_of(source)
    assert (account.read, account.usable) == (read, 4)
    assert (account.refused, account.unused, account.ignored) == (refused, unused, ignored)
    captions = [f"caption {n}" for n, kind in enumerate(KINDS) if kind == "good"]
    assert [source.pair(index).caption for index in range(4)] == captions
    for count in (1, 2, 3):
        some = first_pairs(source, count)
        first = account_of(some)
        assert (first.read, first.usable) == (read, count)
        last = [n for n, kind in enumerate(KINDS) if kind == "good"][count - 1]
        assert sum(first.refused.values()) == KINDS[:last].count("bad")
        assert first.unused[BEYOND] == read - count - sum(first.refused.values()) - sum(unused.values())
        assert some.fingerprint() != source.fingerprint()


def test_images_that_turn_out_bad_are_refused_too() -> None:
    source = ListSource([b"-"] * 1000, [Rejected("a", "a", "no caption")])
    source.unused = {"text only": 3, "not downloaded": 0}
    account = account_of(source, [Rejected("b", "b", "missing")] * 2)
    assert account == Account("list", 998, {"missing": 2, "no caption": 1}, {"text only": 3}, {})
    assert account.line() == (
        "list: 1,004 pairs read, 998 usable, 3 refused (2 missing, 1 no caption), 3 not used (3 text only)"
    )


def test_only_what_left_something_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    log_accounts([Account("whole", 3), Account("a", 3, ignored={".npy members": 2, "later turns": 1000})])
    assert caplog.messages == ["a: 3 pairs read, 3 usable; not read beside them: later turns (1,000), .npy members (2)"]


def test_very_many_reasons_are_told_together() -> None:
    source = ListSource([b"-"])
    source.ignored = {f".{n} members": n for n in range(50)}
    ignored = account_of(source).ignored
    assert len(ignored) == 13
    assert sum(ignored.values()) == sum(range(50))
    assert list(ignored.items())[:2] == [(".49 members", 49), (".48 members", 48)]


def test_half_of_the_records_name_their_image_otherwise(tmp_path: Path) -> None:
    """As LLaMA-Factory's and ms-swift's files do: all are read."""
    records = [conversation(f"c{n}", id=n, image=f"{n}.png") for n in range(10)]
    for record in records[::2]:
        record["images"] = [record.pop("image")]
    source = open_pairs("llava", write_llava(tmp_path, list(records)))
    assert (len(source), source.rejected, +source.unused) == (10, [], {})


@pytest.mark.parametrize("format", ["llava", "webdataset", "parquet"])
def test_half_an_emoji_in_an_id_and_a_group(tmp_path: Path, format: Any) -> None:
    names = ["post \ud83d1", "post \ud83d2", "post 1"]
    if format == "llava":
        records: list[Any] = [{"id": name, "image": "a.png", "caption": "c", "group": f"{name[:6]}"} for name in names]
        source = open_pairs(format, write_llava(tmp_path, records))
        assert [source.pair(index).key for index in range(3)] == ["post 1", "post 2", "post 1#2"]
    elif format == "webdataset":
        samples = [
            {"__key__": f"{n}", "png": b"-", "json": json.dumps({"text": "c", "group": name[:6]}).encode()}
            for n, name in enumerate(names)
        ]
        source = open_pairs(format, write_tar(tmp_path / "s.tar", samples))
    else:
        columns = {
            "png": [b"-"] * 3,
            "text": ["c"] * 3,
            "id": ["a\x1b\n1", "a\x1b2", "a 1"],
            "group": ["post \x07"] * 3,
        }
        source = open_pairs(format, write(tmp_path / "a.parquet", columns))
        assert [source.pair(index).key for index in range(3)] == ["a 1", "a2", "a 1#2"]
    for index in range(3):
        pair = source.pair(index)
        f"{pair.key} {pair.group}".encode()
        assert (pair.group or "").strip() in ("post", "post 1")
