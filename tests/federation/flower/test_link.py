"""Frames over a Grid: to the nodes that the roster names, one body for all, and only what comes back from them."""

import json

import pytest
import torch

pytest.importorskip("flwr")
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fedcmp.federation.flower import link as link_module
from fedcmp.federation.flower.envelope import packed, unpacked
from fedcmp.federation.flower.link import FlowerLink, Lost
from fedcmp.wire.frames import body_bytes, header_bytes, read_body
from tests.federation.flower.tasks import as_a_task

ROSTER = {11: "north", 12: "south"}
STATE = {"state/w": torch.ones(3)}


class Grid:
    """A Grid whose nodes answer as a test says."""

    def __init__(self, online=(11, 12)):
        self.online, self.sent, self.replies, self.takes = list(online), {}, {}, True

    def get_node_ids(self):
        return self.online

    def push_messages(self, messages):
        numbers = []
        for message in messages:
            number = f"message-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = number
            self.sent[number] = message
            numbers.append(number)
        return numbers if self.takes else []

    def pull_messages(self, numbers):
        return [self.replies.pop(number) for number in numbers if number in self.replies]

    def answer(self, number, content, *, node=None):
        """A reply as Flower makes it; from another node if one is named."""
        message = self.sent[number]
        reply = Message(content, reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = node or message.metadata.dst_node_id
        self.replies[number] = reply


@pytest.fixture
def grid(monkeypatch):
    as_a_task(monkeypatch)
    return Grid()


@pytest.fixture
def link(grid):
    link = FlowerLink(grid, lambda: ROSTER)
    link.online()
    return link


def test_only_registered_nodes_are_sites(grid, link):
    grid.online = [11, 99]
    assert link.online() == {"north"}
    with pytest.raises(ConnectionError, match="it cannot be reached"):
        link.push("south", ({}, {}), seconds=1)
    with pytest.raises(ConnectionError):
        link.push("nobody", ({}, {}), seconds=1)


def test_a_roster_may_change_while_a_run_works(grid):
    roster = dict(ROSTER)
    link = FlowerLink(grid, lambda: roster)
    assert link.online() == {"north", "south"}
    del roster[12]
    roster[13], grid.online = "west", [11, 12, 13]
    assert link.online() == {"north", "west"}


def test_a_frame_goes_to_its_sites_node_and_lives_as_long_as_it_should(grid, link):
    number = link.push("south", ({"op": 1}, STATE), seconds=90)
    message = grid.sent[number]
    assert (message.metadata.dst_node_id, message.metadata.ttl, message.metadata.message_type) == (12, 90, "train")
    header, body = unpacked(message.content)
    assert json.loads(header) == {"op": 1}
    assert read_body(body)["state/w"].tolist() == [1, 1, 1]


def test_the_messages_of_a_round_share_one_body(grid, link, monkeypatch):
    made = []
    monkeypatch.setattr(link_module, "body_bytes", lambda tensors: made.append(1) or body_bytes(tensors))
    numbers = [link.push(site, ({"to": site}, dict(STATE)), seconds=1) for site in ("north", "south")]
    assert len(made) == 1
    first, second = (grid.sent[number].content["body"] for number in numbers)
    assert first is second
    link.push("north", ({}, {"state/w": torch.ones(3)}), seconds=1)  # equal, but another tensor
    link.push("north", ({}, {}), seconds=1)
    assert "body" not in grid.sent["message-3"].content


def test_a_message_that_flower_does_not_take_is_said(grid, link):
    grid.takes = False
    with pytest.raises(ConnectionError, match="Flower did not take the message"):
        link.push("north", ({}, {}), seconds=1)


def test_an_answer_comes_back_once(grid, link):
    number = link.push("north", ({"op": 1}, {}), seconds=1)
    assert list(link.pull([number])) == []
    grid.answer(number, packed(header_bytes({"op": 2}), body_bytes(STATE)))
    ((pulled, (header, tensors)),) = link.pull([number])
    assert (pulled, header, tensors["state/w"].tolist()) == (number, {"op": 2}, [1, 1, 1])
    assert list(link.pull([number])) == []


def test_what_another_node_answers_is_not_looked_at(grid, link, monkeypatch):
    number = link.push("north", ({"op": 1}, {}), seconds=1)
    monkeypatch.setattr(link_module, "unpacked", lambda _: pytest.fail("looked at"))
    for node in (12, 99):
        grid.answer(number, packed(b"{}", b""), node=node)
        link._sent_to[number] = 11
        assert list(link.pull([number])) == [(number, Lost("answered by another node"))]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Error(code=5, reason="node \x1b[2Junavailable\nfor long"), "node \\x1b[2Junavailable\\nfor long"),
        (Error(code=8), "Flower's error 8"),
        (Error(code=2, reason="x" * 5000), "x"),
    ],
)
def test_flowers_errors_are_losses_in_one_line(grid, link, error, reason):
    number = link.push("north", ({}, {}), seconds=1)
    grid.replies[number] = Message(error, reply_to=grid.sent[number])
    ((_, lost),) = link.pull([number])
    assert lost.reason.startswith(reason)
    assert len(lost.reason) <= 300
    assert lost.reason.isprintable()
    assert not lost.malformed


MALFORMED = {
    "no JSON": packed(b"{no", b""),
    "no object": packed(b"[1]", b""),
    "nested without end": packed(b"[" * 100_000, b""),
    "a number of thousands of digits": packed(b'{"a": ' + b"9" * 5000 + b"}", b""),
    "no tensors": packed(b"{}", b"no tensors"),
    "a list of tensors without end": packed(b"{}", (2**60).to_bytes(8, "little") + b"{}"),
    "a tensor of another type": packed(
        b"{}",
        (68).to_bytes(8, "little") + b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}'.ljust(68) + bytes(4),
    ),
    "no message of ours": RecordDict({"other": ConfigRecord({"json": "{}"})}),
    "escape sequences": packed(b'{"a": \x1b[2J}', b""),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_an_answer_that_cannot_be_read_is_malformed(grid, link, content):
    number = link.push("north", ({}, {}), seconds=1)
    grid.answer(number, content)
    ((_, lost),) = link.pull([number])
    assert lost.malformed
    assert lost.reason.startswith("malformed ")
    assert lost.reason.isprintable()
