"""What server and site say to each other survives the wire; whatever else comes is refused in one line."""

import copy
import io
import json
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.terminal import shown
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import MessageError
from fedcmp.wire.payload import encode, forms
from fedcmp.wire.site_messages import (
    Admission,
    Collecting,
    Handover,
    Holding,
    Invitation,
    Judged,
    Judging,
    Kept,
    NotKnown,
    PairsAccount,
    Placement,
    Refusal,
    Training,
    Working,
    job_of,
    read_answer,
    read_request,
)

RUN, JOB = "ab" * 16, "0f" * 32
A, B = torch.arange(6.0).view(2, 3), torch.tensor([1.5, -2.0])
STATE = {"linear_1.weight": A, "linear_1.bias": B}
HEAD = {"run": RUN, "attempt": 1_764_000_000, "number": 7, "patience": 60.0}
ASSIGNMENT = Assignment(
    2,
    learning_rate=0.01,
    forms=forms("int8"),
    step="canonical",
    step_options={"stretch": True},
    extras=("input_gram",),
    error_feedback=True,
    continues=1,
    state=STATE,
    public={"canonical_basis": {"linear_1.weight": A}},
)
REQUESTS = [
    Invitation(**HEAD, release="0.2.0", recipe='[run]\nmethods = ["fedavg"]\n'),
    Placement(**HEAD, client=1, clients=3, first_position=60),
    Training(**HEAD, method="fedcmp", assignment=ASSIGNMENT),
    Judging(**HEAD, method="fedcmp", round=2, state=STATE),
    Judging(**HEAD, method="fedcmp", round=0, blind=True),
    Collecting(**HEAD, job=JOB),
    Handover(**HEAD, method="fedcmp", round=2, state=STATE),
]
ACCOUNT = PairsAccount(
    read=60, train=48, held_out=12, judged=12, refused={"missing": 1}, unused={}, ignored={}, captions_cut=2
)
ANSWERS = [
    Admission(release="0.2.0", usable=60, vision_width=64, text_width=96, vision=JOB, language=RUN),
    Holding(train=48, groups={"animals": 48}, bad_pairs={"missing": 1}, missing_pairs=0, pairs=[ACCOUNT]),
    Reply(
        2,
        client=1,
        num_examples=16,
        alignment_error=0.5,
        figures={"loss": 0.5},
        seconds=1.5,
        kept=True,
        update=encode(STATE, "int8"),
        extra={"input_gram": {"linear_1.weight": A}},
    ),
    Judged(losses={"animals": 12.5}, tokens={"animals": 40}, captions=12, seconds=0.5),
    Working(job=JOB, steps=3, of=12),
    NotKnown(what="job"),
    NotKnown(what="run"),
    Kept(),
    Refusal(reason="method fedcmp: accept.methods has fedavg only", accepted=False),
]
MESSAGES = [(read_request, message) for message in REQUESTS] + [(read_answer, message) for message in ANSWERS]
each_message = pytest.mark.parametrize(("read", "message"), MESSAGES, ids=lambda one: type(one).__name__)


def plain(message):
    header, tensors = message.to_tensors()
    return json.dumps(header, sort_keys=True), {name: (t.dtype, t.tolist()) for name, t in tensors.items()}


@each_message
def test_a_message_survives_a_frame(read, message):
    stream = io.BytesIO()
    write_frame(stream, *message.to_tensors())
    stream.seek(0)
    again = read(*read_frame(stream))
    assert type(again) is type(message)
    assert plain(again) == plain(message)


@each_message
def test_a_header_that_lacks_a_key_or_has_another_is_refused(read, message):
    header, tensors = message.to_tensors()
    for key in header:
        cut = {name: value for name, value in header.items() if name != key}
        if key == "blind":
            continue  # what tensors there are says it too
        with pytest.raises(MessageError, match=key):
            read(cut, tensors)
    with pytest.raises(MessageError, match="surprise"):
        read(header | {"surprise": 1}, tensors)
    for version in (0, 1, "2", None, True):
        with pytest.raises(MessageError, match="version"):
            read(header | {"version": version}, tensors)


@each_message
def test_a_tensor_that_belongs_nowhere_is_refused(read, message):
    header, tensors = message.to_tensors()
    with pytest.raises(MessageError, match=r"belongs to none of|must have none"):
        read(header, tensors | {"surprise": B})


@pytest.mark.parametrize("message", ["reply", "assignment", "", "Invitation", None, 1, ["invitation"], {}])
def test_what_is_no_request_is_refused(message):
    with pytest.raises(MessageError, match=r"message = .*: must be one of invitation, placement"):
        read_request({"message": message, "version": 2}, {})
    with pytest.raises(MessageError, match="must be one of invitation"):
        read_request({"version": 2}, {})
    with pytest.raises(MessageError, match="must be one of invitation"):
        read_request([1], {})


def test_a_request_is_no_answer_and_an_answer_no_request():
    for message in REQUESTS:
        with pytest.raises(MessageError, match="must be one of admission"):
            read_answer(*message.to_tensors())
    for message in ANSWERS:
        with pytest.raises(MessageError, match="must be one of invitation"):
            read_request(*message.to_tensors())


def header_of(kind, **changes):
    header, tensors = next(
        (header, tensors)
        for header, tensors in (message.to_tensors() for _, message in MESSAGES)
        if header["message"] == kind
    )
    return header | changes, tensors


def read_any(header, tensors):
    kinds = [message.to_tensors()[0]["message"] for message in REQUESTS]
    return (read_request if header["message"] in kinds else read_answer)(header, tensors)


OUT_OF_BOUNDS = [
    ("invitation", "run", "../../etc"),
    ("invitation", "run", RUN + "\n"),
    ("invitation", "run", "AB" * 16),
    ("invitation", "run", "ab"),
    ("invitation", "run", "ab" * 40),
    ("invitation", "recipe", "x" * 1_000_001),
    ("invitation", "release", ""),
    ("invitation", "release", "x" * 201),
    ("invitation", "attempt", 2**60),
    ("invitation", "number", -1),
    ("invitation", "patience", float("nan")),
    ("invitation", "patience", float("inf")),
    ("invitation", "patience", -1.0),
    ("placement", "client", -1),
    ("placement", "client", True),
    ("placement", "clients", 0),
    ("placement", "first_position", 2**60),
    ("placement", "first_position", 0.5),
    ("training", "method", ""),
    ("training", "method", 7),
    ("training", "assignment", None),
    ("judging", "round", -1),
    ("judging", "blind", 1),
    ("handover", "round", 0),
    ("handover", "method", ""),
    ("collecting", "job", "../" * 10),
    ("collecting", "job", None),
    ("admission", "usable", 0),
    ("admission", "usable", 2**53),  # of many sites: the sum is told to the next one
    ("admission", "vision_width", 10**6),  # the server makes a matrix of width x width
    ("admission", "text_width", 0),
    ("admission", "vision", "no hash"),
    ("holding", "train", 0),
    ("holding", "train", 2**53),
    ("holding", "groups", {"": 1}),
    ("holding", "groups", {"animals": -1}),
    ("holding", "groups", {"animals": 1.0}),
    ("holding", "groups", {str(number): 1 for number in range(10_001)}),
    ("holding", "pairs", [ACCOUNT.model_dump()] * 101),
    ("holding", "pairs", [{}]),
    ("judged", "losses", {}),
    ("judged", "losses", {"animals": float("nan")}),
    ("judged", "losses", {"animals": float("inf")}),
    ("judged", "losses", {"animals": -1.0}),
    ("judged", "tokens", {"animals": 0}),  # the server divides by them
    ("judged", "captions", 0),
    ("judged", "seconds", -0.5),
    ("working", "steps", -1),
    ("working", "of", "12"),
    ("not known", "what", "server"),
    ("refusal", "reason", "x" * 4001),
    ("refusal", "reason", None),
    ("refusal", "accepted", "no"),
]


@pytest.mark.parametrize(("kind", "key", "value"), OUT_OF_BOUNDS)
def test_a_value_out_of_bounds_is_refused_by_its_key(kind, key, value):
    header, tensors = header_of(kind, **{key: value})
    with pytest.raises(MessageError, match=key):
        read_any(header, tensors)


@pytest.mark.parametrize("groups", [{}, {"plants": 40}, {"animals": 40, "plants": 1}])
def test_losses_and_tokens_are_of_the_same_groups(groups):
    with pytest.raises(MessageError, match="same groups"):
        read_answer(*header_of("judged", tokens=groups))


def test_an_assignment_within_a_request_is_read_as_any_other():
    header, tensors = header_of("training", assignment={})
    with pytest.raises(MessageError, match="version"):
        read_request(header, tensors)
    header, tensors = header_of("training")
    header["assignment"] |= {"objective": 1}
    with pytest.raises(MessageError, match="objective"):
        read_request(header, tensors)


def test_only_a_blind_model_has_no_tensors():
    header, tensors = REQUESTS[3].to_tensors()
    with pytest.raises(MessageError, match="state must hold tensors, but for a blind model"):
        read_request(header, {})
    with pytest.raises(MessageError, match="state must hold tensors, but for a blind model"):
        read_request(header | {"blind": True}, tensors)


def test_nothing_is_handed_over_without_tensors():
    header, tensors = header_of("handover")
    with pytest.raises(MessageError, match="handover: state must hold tensors"):
        read_request(header, {})
    moved = {"state/linear_1.weight": A + 1, "state/linear_1.bias": B}
    assert read_request(header, tensors).job != read_request(header, moved).job


def test_a_refusal_is_one_line_whatever_a_message_held():
    header, tensors = header_of("training", method="\x1b[2Jx\nsecond line")
    assert read_request(header, tensors).method == "\x1b[2Jx\nsecond line"  # not listed by any recipe: refused there
    with pytest.raises(MessageError) as refused:
        read_request({"message": "\x1b[2Jx\nsecond line" * 1000, "version": 2}, {})
    line = str(refused.value)
    assert shown(line) == line
    assert len(line) <= 2000


WRONG = [None, "text", "", -1, 1.5, True, [], {}, {"a": 1}, float("inf"), float("nan"), 2**70, "\ud800", [[[]]]]


@given(data=st.data())
def test_a_damaged_header_is_refused_or_means_the_same(data):
    read, message = data.draw(st.sampled_from(MESSAGES))
    header, tensors = message.to_tensors()
    damaged = copy.deepcopy(header)
    place = damaged["assignment"] if "assignment" in damaged and data.draw(st.booleans()) else damaged
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(st.sampled_from(WRONG))
    try:
        again, _ = read(damaged, tensors).to_tensors()
    except MessageError:
        return
    assert json.dumps(again, sort_keys=True) == json.dumps(damaged, sort_keys=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(header=st.dictionaries(st.text(max_size=10), JSON, max_size=6), kind=st.sampled_from(MESSAGES))
def test_any_object_is_read_or_refused_and_nothing_else(header, kind):
    read, message = kind
    for given_header in (header, message.to_tensors()[0] | header):
        line = ""
        try:
            read(given_header, {})
        except MessageError as error:
            line = str(error)
        assert shown(line) == line


def test_a_job_is_known_by_what_it_is_to_do_and_not_by_its_ticket():
    later = HEAD | {"attempt": 1_764_000_001, "number": 99, "patience": 1.0}
    training, judging = REQUESTS[2], REQUESTS[3]
    assert Training(**later, method="fedcmp", assignment=ASSIGNMENT).job == training.job
    assert Judging(**later, method="fedcmp", round=2, state=STATE).job == judging.job
    assert job_of(REQUESTS[1].model_copy(update=later)) == job_of(REQUESTS[1])
    moved = {"linear_1.weight": A + 1, "linear_1.bias": B}
    changed = [
        Training(**HEAD, method="fedavg", assignment=ASSIGNMENT).job,
        Training(**HEAD, method="fedcmp", assignment=ASSIGNMENT.continuing(0)).job,
        Training(**HEAD | {"run": "cd" * 16}, method="fedcmp", assignment=ASSIGNMENT).job,
        Training(**HEAD, method="fedcmp", assignment=Assignment(2, 0.01, forms("int8"), state=moved)).job,
        Judging(**HEAD, method="fedcmp", round=2, state=moved).job,
        Judging(**HEAD, method="fedcmp", round=1, state=STATE).job,
        Judging(**HEAD, method="fedavg", round=2, state=STATE).job,
        job_of(REQUESTS[0]),
        job_of(REQUESTS[1].model_copy(update={"client": 2})),
        job_of(REQUESTS[1].model_copy(update={"first_position": 61})),
    ]
    assert len({*changed, training.job, judging.job, job_of(REQUESTS[1])}) == len(changed) + 3


def test_tickets_grow_with_every_request_and_with_every_start_of_the_server():
    first = Collecting(**HEAD, job=JOB).ticket
    assert first < Collecting(**HEAD | {"number": 8}, job=JOB).ticket
    assert first < Collecting(**HEAD | {"attempt": HEAD["attempt"] + 1, "number": 1}, job=JOB).ticket
    assert REQUESTS[2].ticket == REQUESTS[3].ticket == first


@pytest.mark.parametrize(
    "header",
    [
        {"message": "holding", "groups": {str(number): number for number in range(100_000)}},
        {"message": "refusal", "reason": "x" * 2_000_000},
        {"message": "training", "assignment": {"objective_options": [[[]] * 100] * 1000}},
        {"message": "judged", "losses": dict.fromkeys(map(str, range(100_000)), 0.5)},
    ],
)
def test_a_large_header_takes_little_more_than_itself(header):
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            read_any(header | {"version": 2}, {})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 60 * 2**20
