"""A site's own log of what left it."""

import hashlib
import io
import json
import os
import threading

import pytest
import torch

from fedcmp.deployment.sent_log import SentLog
from fedcmp.errors import UserError
from fedcmp.wire.frames import write_frame
from fedcmp.wire.messages import Reply
from fedcmp.wire.site_messages import NotKnown, Refusal

RUN = "ab" * 16
REPLY = Reply(2, client=1, num_examples=3, alignment_error=0.5, state={"w": torch.randn(7, 3), "b": torch.zeros(3)})


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sent(frame):
    """The bytes that a frame hands on, its two lengths left out."""
    stream = io.BytesIO()
    write_frame(stream, *frame)
    return stream.getvalue()[12:]


@pytest.mark.parametrize("message", [REPLY, NotKnown(what="job"), Refusal(reason="é\n" * 40, accepted=True)])
def test_a_line_has_the_bytes_that_leave_and_their_hash(message, tmp_path):
    frame = message.to_tensors()
    SentLog(tmp_path / "state" / "sent.jsonl").add(frame, run=RUN, what=["projector"])
    (line,) = lines(tmp_path / "state" / "sent.jsonl")
    assert line["bytes"] == len(sent(frame))
    assert line["sha256"] == hashlib.sha256(sent(frame)).hexdigest()
    assert (line["run"], line["message"], line["what"]) == (RUN, frame[0]["message"], ["projector"])
    assert {key: line[key] for key in ("round", "reason") if key in line} == {
        key: frame[0][key] for key in ("round", "reason") if key in frame[0]
    }


def test_a_line_is_on_disk_before_the_message_goes(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    log = SentLog(tmp_path / "sent.jsonl")
    for count in (1, 2):
        log.add(REPLY.to_tensors(), run=RUN, what=[])
        assert synced[-1] == (tmp_path / "sent.jsonl").stat().st_size
        assert len(synced) == count


def test_a_line_that_a_killed_trainer_did_not_finish_spoils_no_other(tmp_path):
    path = tmp_path / "sent.jsonl"
    log = SentLog(path)
    log.add(REPLY.to_tensors(), run=RUN, what=[])
    path.write_bytes(path.read_bytes() + b'{"time": "2026-')
    SentLog(path).add(REPLY.to_tensors(), run=RUN, what=["losses"])
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first)["what"] == []
    assert torn == '{"time": "2026-'
    assert json.loads(last)["what"] == ["losses"]


def test_many_threads_write_whole_lines(tmp_path):
    log, long = SentLog(tmp_path / "sent.jsonl"), Refusal(reason="x" * 4000, accepted=True).to_tensors()
    threads = [threading.Thread(target=lambda: [log.add(long, run=RUN, what=[]) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path / "sent.jsonl")) == 40


def test_what_cannot_be_noted_must_not_go(tmp_path):
    (tmp_path / "sent.jsonl").mkdir()
    with pytest.raises(UserError, match=r"sent\.jsonl: cannot be written"):
        SentLog(tmp_path / "sent.jsonl").add(REPLY.to_tensors(), run=RUN, what=[])
