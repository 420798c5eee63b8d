"""A delegation and a partial sum survive the wire; accounts that contradict themselves or the sums are refused."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.wire.edge_messages import Account, Delegation, PartialSum, parts_of, read_reply
from fedcmp.wire.files import read_message, write_message
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import MessageError
from fedcmp.wire.payload import encode, forms
from tests.wire.test_messages import WRONG, A, B, plain

STATE = {"linear_1.weight": A, "b": B}


def reply_of(client, **changes):
    given = {"num_examples": 7, "alignment_error": 0.25, "figures": {"loss": 1.5}, "seconds": 2.0, "kept": True}
    return Reply(3, client=client, **{**given, **changes})


DELEGATION = Delegation(
    Assignment(
        3,
        learning_rate=0.01,
        forms=forms("int8"),
        state=encode(STATE, "bfloat16"),
        public={"canonical_basis": {"linear_1.weight": A}},
    ),
    {4: 2, 1: 0, 11: 1},
    rule_round=2,
    start=STATE,
    exact={"canonical_basis": {"linear_1.weight": A.double()}},
    scalars={"magnitude_limit": 0.5},
)
SUM = PartialSum(
    3,
    (
        Account(reply_of(1), 100, 50, 0.5, 1.25),
        Account(reply_of(4), 100, 50, None, None, "linear_1.weight holds 2 NaN"),
        Account(reply_of(11), 100, 50, 7.0, 0.0),
    ),
    {"delta.b": B.double(), "clients": torch.tensor(2.0, dtype=torch.float64)},
    bytes_down=1000,
)
MESSAGES = [DELEGATION, SUM]


def named(message):
    return type(message).__name__


@pytest.mark.parametrize("message", MESSAGES, ids=named)
def test_it_survives_json_and_a_file(message, tmp_path):
    header, tensors = message.to_tensors()
    assert plain(type(message).from_tensors(json.loads(json.dumps(header)), tensors)) == plain(message)
    write_message(tmp_path / "message", header, tensors)
    assert plain(type(message).from_tensors(*read_message(tmp_path / "message"))) == plain(message)


def test_clients_and_bytes_are_those_of_the_parts():
    assert SUM.clients == (1, 4, 11)
    assert SUM.client == 1
    assert SUM.num_bytes == 8 * 2 + 8
    assert DELEGATION.num_bytes == 2 * 8 + 4 * 6 + 4 * 8 + 8 * 6  # rounded, basis, start, basis in float64
    assert [part.client for part in parts_of(SUM)] == [1, 4, 11]
    assert parts_of(reply_of(2))[0].client == 2


def test_a_reply_and_a_sum_are_told_apart():
    assert isinstance(read_reply(*SUM.to_tensors()), PartialSum)
    assert isinstance(read_reply(*reply_of(2, state=STATE).to_tensors()), Reply)
    with pytest.raises(MessageError):
        read_reply(*DELEGATION.to_tensors())


def altered(message, place, value):
    """The message's header with one value replaced, and its tensors."""
    header, tensors = message.to_tensors()
    header = copy.deepcopy(header)
    at = header
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return header, tensors


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("accounts", 2, "reply", "client"), 1, "ascending order"),
        (("accounts", 0, "reply", "client"), 5, "ascending order"),
        (("accounts", 0, "reply", "client"), -1, "ascending order"),
        (("accounts", 0, "reply", "round"), 2, "another round"),
        (("accounts", 0, "reply", "measure_only"), True, "another round"),
        (("accounts", 0, "norm"), None, "either refused"),
        (("accounts", 0, "refused"), "no", "either refused"),
        (("accounts", 0, "norm"), float("nan"), "norm"),
        (("accounts", 0, "arrived"), -1.0, "arrived"),
        (("accounts", 0, "bytes_up"), -1, "bytes_up"),
        (("accounts",), [], "accounts"),
        (("bytes_down",), -1, "bytes_down"),
    ],
)
def test_a_sum_that_contradicts_itself_is_refused(place, value, said):
    with pytest.raises(MessageError, match=said):
        PartialSum.from_tensors(*altered(SUM, place, value))


def test_sums_are_there_exactly_where_a_client_was_accepted():
    header, tensors = SUM.to_tensors()
    with pytest.raises(MessageError, match="must hold sums"):
        PartialSum.from_tensors(header, {})
    refused = PartialSum(3, SUM.accounts[1:2])
    assert PartialSum.from_tensors(*refused.to_tensors()).sums == {}
    with pytest.raises(MessageError, match="must hold sums"):
        PartialSum.from_tensors(refused.to_tensors()[0], tensors)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("clients",), [1, 4], "different ones"),
        (("clients",), [1, 4, 4], "different ones"),
        (("clients",), [], "clients"),
        (("continues", 0), -1, "continues"),
        (("scalars", "magnitude_limit"), float("inf"), "scalars"),
        (("assignment", "round"), 0, "round"),
    ],
)
def test_a_malformed_delegation_is_refused(place, value, said):
    with pytest.raises(MessageError, match=said):
        Delegation.from_tensors(*altered(DELEGATION, place, value))


@given(data=st.data())
def test_a_damaged_header_is_refused_or_means_the_same(data):
    message = data.draw(st.sampled_from(MESSAGES))
    header, tensors = message.to_tensors()
    damaged = copy.deepcopy(header)
    at = damaged
    if message is SUM and data.draw(st.booleans()):
        at = damaged["accounts"][data.draw(st.integers(0, 2))]
    at[data.draw(st.sampled_from(sorted(at)))] = data.draw(st.sampled_from(WRONG))
    try:
        again, _ = type(message).from_tensors(damaged, tensors).to_tensors()
    except MessageError:
        return
    assert again == damaged
