"""The ledger of bad pairs."""

import json
import logging
import pickle
from pathlib import Path

import pytest

from fedcmp.data.images import BadImage
from fedcmp.data.quality import NAMED_A_REASON, BadPair, BadPairs, Rejected
from fedcmp.errors import UserError


def bad(number: int, reason: str = "missing") -> Rejected:
    return Rejected(f"key-{number}", f"pairs.json[{number}] {number}.png", reason)


def test_one_bad_of_the_first_three_stops_nothing_and_the_limit_is_exact() -> None:
    ledger = BadPairs("lab", total=100, max_bad_fraction=0.05)
    for number in range(5):
        ledger.add(bad(number))
    assert len(ledger) == 5
    with pytest.raises(UserError):
        ledger.add(bad(5))


def test_the_verdict_names_counts_places_and_the_mend(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "bad.jsonl"
    ledger = BadPairs("lab", total=10, max_bad_fraction=0.3, log_path=log)
    for number, reason in enumerate(["truncated", "missing", "missing"]):
        ledger.add(bad(number, reason))
    with pytest.raises(UserError) as caught:
        ledger.add(bad(3, "missing"))
    message = str(caught.value)
    assert "4 of 10" in message
    assert "3 missing, 1 truncated" in message
    assert "pairs.json[0] 0.png (truncated); pairs.json[1] 1.png (missing); pairs.json[2]" in message
    assert "pairs.json[3]" not in message
    assert "check the images folder, or raise data.max_bad_fraction" in message
    assert str(log) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("reason", "hint"),
    [("git-lfs pointer", "git lfs pull"), ("changed", "do not change"), ("damaged", "fix or remove")],
)
def test_the_verdict_says_what_helps(reason: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        BadPairs("lab", total=10, max_bad_fraction=0).add(bad(0, reason))


def test_zero_tolerance_and_full_tolerance() -> None:
    with pytest.raises(UserError):
        BadPairs("lab", total=1000, max_bad_fraction=0).add(bad(1))
    ledger = BadPairs("lab", total=2, max_bad_fraction=1)
    ledger.add(bad(1))
    ledger.add(bad(2))
    for wrong in ({"total": 0, "max_bad_fraction": 0.1}, {"total": 1, "max_bad_fraction": 1.1}):
        with pytest.raises(ValueError, match="must be"):
            BadPairs("lab", **wrong)


def test_every_pair_is_named_in_the_log_file(tmp_path: Path) -> None:
    log = tmp_path / "bad.jsonl"
    log.write_text("of an earlier run\n")
    with BadPairs("lab", total=10, max_bad_fraction=1, log_path=log) as ledger:
        ledger.add(Rejected("é\ud800", "tëst.json[3]", "truncated", "12 bytes"))
        ledger.recall([bad(7)])
        assert len(log.read_text("utf-8").splitlines()) == 2  # already there, should the process be killed
    first, second = map(json.loads, log.read_text("utf-8").splitlines())
    assert first == {"key": "é\ud800", "place": "tëst.json[3]", "reason": "truncated", "detail": "12 bytes"}
    assert second["key"] == "key-7"


def test_the_logger_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "fedcmp.data"), BadPairs("lab", total=99, max_bad_fraction=1) as ledger:
        for number in range(30):
            ledger.add(bad(number))
        ledger.add(bad(30, "truncated"))
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == NAMED_A_REASON + 2
    assert "lab: skipped pairs.json[30] 30.png: truncated" in warnings
    assert warnings[-1] == "lab: skipped 31 of 99 pairs: 30 missing, 1 truncated"
    assert sum("pairs.json[29]" in record.message for record in caplog.records) == 1


def test_a_bad_picture_crosses_processes() -> None:
    # what is pickled here is our own object, as a worker process of a DataLoader raises it
    copy = pickle.loads(pickle.dumps(BadImage("truncated", "here")))
    assert (type(copy), copy.reason, copy.detail, str(copy)) == (BadImage, "truncated", "here", "truncated: here")


def test_a_detail_is_shortened_where_a_record_makes_it_very_long() -> None:
    bad = BadPair("missing", "images/" + "é" * 9000 + ".png")
    assert len(bad.detail) <= 1000
    assert bad.detail.startswith("images/é")
    assert bad.detail.endswith("é.png")
    assert pickle.loads(pickle.dumps(bad)).detail == bad.detail
