"""Messages survive the wire, and whatever `to_tensors` did not make is refused."""

import copy
import io
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from fedcmp.wire.files import read_message, write_message
from fedcmp.wire.frames import apart, read_frame, write_frame
from fedcmp.wire.messages import Assignment, ClientState, Reply
from fedcmp.wire.naming import MessageError, joined
from fedcmp.wire.part_state import PartState
from fedcmp.wire.payload import encode, forms

A, B = torch.arange(6.0).view(2, 3), torch.tensor([1.5, -2.0])
NAMES = {"linear_1.weight": A, "deep/name.with/slashes": B}
MESSAGES = [
    Assignment(
        3,
        learning_rate=0.01,
        forms=forms("int8"),
        objective="moon",
        objective_options={"mu": 1.0, "temperature": 0.5},
        step="soap",
        step_options={"refresh": 5},
        extras=("input_gram",),
        with_second_moment=True,
        error_feedback=True,
        continues=2,
        state=NAMES,
        public={"canonical_basis": {"linear_1.weight": A}, "control": {"b": B}},
    ),
    Reply(
        3,
        client=4,
        num_examples=17,
        alignment_error=0.25,
        figures={"loss": 0.5, "update_norm": 1.5},
        seconds=2.5,
        kept=True,
        update=encode(NAMES, "int8"),
        second_moment={"b": B},
        extra={"input_gram": {"linear_1.weight": A}},
    ),
    Reply(1, client=-1, num_examples=0, alignment_error=float("nan"), measure_only=True, state=NAMES),
    ClientState(5, memory={"control": NAMES}, residual={"b": B}, optimizer={"step.b": B}, state=NAMES),
    PartState(
        "work",
        2,
        [[0.5], []],
        [3, 0],
        parameters={"w": A},
        optimizer={"m": A},
        gathered={"g": B},
        extras={"gram": {"w": A}},
        memory={},
    ),
]


def plain(message):
    header, tensors = message.to_tensors()
    return json.dumps(header, sort_keys=True), {name: (t.dtype, t.tolist()) for name, t in tensors.items()}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_a_frame_and_a_file(message, tmp_path):
    stream = io.BytesIO()
    write_frame(stream, *message.to_tensors())
    stream.seek(0)
    assert plain(type(message).from_tensors(*read_frame(stream))) == plain(message)
    write_message(tmp_path / "message", *message.to_tensors())
    assert plain(type(message).from_tensors(*read_message(tmp_path / "message"))) == plain(message)


def test_bytes_are_those_of_the_tensors():
    assignment, reply = MESSAGES[:2]
    assert assignment.num_bytes == 4 * (6 + 2 + 6 + 2)
    assert reply.num_bytes == (6 + 2) + 4 * 2 + 4 * 2 + 4 * 6  # codes, scales, second moments, Gram matrix


def test_an_assignment_of_another_client_differs_in_where_it_continues():
    other = MESSAGES[0].continuing(1)
    assert other.continues == 1
    assert other.header() | {"continues": 2} == MESSAGES[0].header()
    assert other.state is MESSAGES[0].state


WRONG = [None, "text", -1, 1.5, True, [], {}, {"a": 1}, float("inf"), 2**70]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_header_that_lacks_a_key_or_has_another_is_refused(message):
    header, tensors = message.to_tensors()
    for key in header:
        cut = {name: value for name, value in header.items() if name != key}
        if key == "message":
            continue  # it has a default, and its tensors say the rest
        with pytest.raises(MessageError, match=key):
            type(message).from_tensors(cut, tensors)
    with pytest.raises(MessageError, match="surprise"):
        type(message).from_tensors(header | {"surprise": 1}, tensors)
    for version in (0, 1, "2", None, True):
        with pytest.raises(MessageError, match="version"):
            type(message).from_tensors(header | {"version": version}, tensors)


@given(data=st.data())
def test_a_damaged_header_is_refused_or_means_the_same(data):
    message = data.draw(st.sampled_from(MESSAGES))
    header, tensors = message.to_tensors()
    damaged = copy.deepcopy(header)
    key = data.draw(st.sampled_from(sorted(header)))
    damaged[key] = data.draw(st.sampled_from(WRONG))
    try:
        again, _ = type(message).from_tensors(damaged, tensors).to_tensors()
    except MessageError:
        return
    assert all(again[name] == value or value != value for name, value in damaged.items())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("name", ["state", "", "state/", "other/x", "public/x", "extra/only", "memory//x", "/x"])
def test_a_tensor_that_belongs_nowhere_is_refused(message, name):
    header, tensors = message.to_tensors()
    with pytest.raises(MessageError, match="belongs to none of"):
        type(message).from_tensors(header, tensors | {name: B})


def test_a_message_of_another_kind_is_refused():
    for message in MESSAGES:
        for other in MESSAGES:
            if type(other) is not type(message):
                with pytest.raises(MessageError):
                    type(message).from_tensors(*other.to_tensors())


def test_no_object_and_no_tensor_are_refused():
    header, _ = MESSAGES[0].to_tensors()
    with pytest.raises(MessageError, match="must be an object"):
        Assignment.from_tensors([1], {})
    with pytest.raises(MessageError, match="must be a tensor"):
        Assignment.from_tensors(header, {"state/w": [1.0]})


@pytest.mark.parametrize("figures", [{"round": 7.0}, {"refused": 0.5}, {"losses": 1.0}, {"loss": "0.5"}, {"": 1.0}])
def test_a_client_reports_the_figures_that_are_known(figures):
    header, tensors = MESSAGES[1].to_tensors()
    with pytest.raises(MessageError, match="figures"):
        Reply.from_tensors(header | {"figures": figures}, tensors)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_seconds_are_a_time(seconds):
    header, tensors = MESSAGES[1].to_tensors()
    with pytest.raises(MessageError, match="seconds"):
        Reply.from_tensors(header | {"seconds": seconds}, tensors)


@pytest.mark.parametrize("label", ["", "a/b"])
def test_labels_cannot_be_mistaken(label):
    with pytest.raises(MessageError, match="label"):
        joined(public={label: {"w": B}})


def test_a_flipped_bit_of_a_file_is_found(tmp_path):
    path = tmp_path / "kept.safetensors"
    write_message(path, *MESSAGES[3].to_tensors())
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 7):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"kept\.safetensors: cannot be read"):
            read_message(path)


def test_the_same_message_gives_the_same_bytes_and_one_without_a_hash_is_taken_as_it_is(tmp_path):
    """As version 0.2.0 wrote it."""
    header, tensors = MESSAGES[3].to_tensors()
    for name in "abcdefgh":
        write_message(tmp_path / name, header, tensors)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    (tmp_path / "old").write_bytes(save(apart(tensors), metadata={"fedcmp": json.dumps(header)}))
    assert read_message(tmp_path / "old")[0] == header


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "kept.safetensors"
    write_message(path, *MESSAGES[3].to_tensors())
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-1], b"{}" + whole):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"kept\.safetensors: cannot be read"):
            read_message(path)
