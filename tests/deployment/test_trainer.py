"""A site's trainer, asked as a server asks: what it does, and once; what it refuses; what is left after a kill."""

import hashlib
import json
import shutil
import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcmp.deployment import trainer as trainer_module
from fedcmp.deployment.jobs import Job
from fedcmp.deployment.site_engine import SiteEngine
from fedcmp.deployment.site_file import SENDABLE
from fedcmp.deployment.trainer import Trainer, folder_bytes
from fedcmp.files import cannot_be_written
from fedcmp.version import __version__
from fedcmp.wire.frames import body_bytes, header_bytes
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.payload import forms
from fedcmp.wire.site_messages import Handover, Judged, Kept, NotKnown, Placement, Refusal, Working, read_answer
from tests.deployment.asking import RUN, Server
from tests.deployment.local import one_at_a_time, recipe_of, site_of

METHODS = ("fedavg", "shared-basis", "scaffold")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("sites")


@pytest.fixture(autouse=True)
def _loading(monkeypatch):
    one_at_a_time(monkeypatch)


@pytest.fixture(scope="session")
def begun_state(files, tmp_path_factory):
    """What a site keeps once it was invited and placed; copied for every test."""
    folder = tmp_path_factory.mktemp("begun")
    server = Server(Trainer(site_of(files, "north", folder / "state")), recipe_of(folder, *METHODS), folder / "server")
    server.begin()
    return folder / "state", server.admission


class At:
    """A site that is placed already, and its server."""

    def __init__(self, files, folder, begun_state, **sections):
        state, admission = begun_state
        shutil.copytree(state, folder / "state")
        self.state, self.said = folder / "state", []
        self.site = site_of(files, "north", self.state, **sections)
        self.trainer = Trainer(self.site, self.said.append)
        self.server = Server(self.trainer, recipe_of(folder / "runs", *METHODS), folder / "server", attempt=2)
        self.server.admission = admission

    def restarted(self, **sections):
        """The same site, with another trainer and perhaps another SITE.toml."""
        self.site = self.site.model_copy(update=sections)
        self.trainer = Trainer(self.site, self.said.append)
        self.server = self.server.again(self.trainer)
        return self.server

    def log(self):
        return [json.loads(line) for line in (self.state / "sent.jsonl").read_text().splitlines()]


@pytest.fixture
def placed(files, tmp_path, begun_state):
    return At(files, tmp_path, begun_state)


def fresh(files, tmp_path, *methods, recipe=None, **sections):
    """A site that has never heard of the run."""
    said = []
    trainer = Trainer(site_of(files, "north", tmp_path / "state", **sections), said.append)
    changes = recipe or {}
    server = Server(trainer, recipe_of(tmp_path / "runs", *(methods or METHODS), **changes), tmp_path / "server")
    return server, said


def tensors_of(reply):
    return {name: tensor.tolist() for name, tensor in reply.to_tensors()[1].items()}


def test_a_site_says_what_it_has_and_what_it_holds(files, tmp_path):
    server, said = fresh(files, tmp_path, "fedavg")
    admission = server.invite()
    assert (admission.usable, admission.release) == (60, __version__)
    holding = server.place(client=2, first_position=88)
    assert holding.train == 48
    assert sum(holding.groups.values()) == 48
    assert (holding.pairs[0].read, holding.pairs[0].held_out) == (60, 12)
    assert "this site is client 2 of 3" in said[-1]
    assert sum("model loaded" in line for line in said) == 1


def test_a_reply_is_that_of_the_client_that_the_site_is(placed):
    reply = placed.server.train()
    assert isinstance(reply, Reply)
    assert (reply.client, reply.round, reply.num_examples) == (0, 1, 24)
    assert reply.state.keys() == placed.server.assignment().state.keys()
    assert all(bool(tensor.isfinite().all()) for tensor in reply.state.values())


def test_the_model_is_loaded_once_for_all_the_work_of_a_run(placed):
    for method in METHODS:
        assert isinstance(placed.server.train(method=method), Reply)
        assert isinstance(placed.server.judge(method), Judged)
    assert sum("model loaded" in line for line in placed.said) == 1


def test_held_out_losses_are_sums_and_a_blind_model_has_its_own(placed):
    seeing, blind = placed.server.judge(), placed.server.judge(blind=True)
    assert (seeing.captions, blind.captions) == (12, 12)
    assert seeing.tokens == blind.tokens
    assert all(0.1 < seeing.losses[group] / seeing.tokens[group] < 10 for group in seeing.losses)
    assert seeing.losses != blind.losses


# what a server may not do


def test_nothing_is_done_for_a_run_that_the_site_does_not_know(placed):
    placed.server.run = "cd" * 16
    for answer in (placed.server.train(), placed.server.judge(), placed.server.place()):
        assert answer == NotKnown(what="run")
    assert placed.server.collect("0f" * 32) == NotKnown(what="job")
    assert not (placed.state / "runs" / ("cd" * 16)).exists()


def test_another_release_is_refused(files, tmp_path):
    server, said = fresh(files, tmp_path)
    answer = server.invite(release="9.9")
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert answer.reason.startswith("the server runs fedcmp 9.9, this site ")
    assert said == [f"refused: {answer.reason}"]


NOT_ACCEPTED = [
    ({"accept": {"methods": ["moon"]}}, "accept.methods has moon only"),
    ({"accept": {"max_rounds": 1}}, "accept.max_rounds is 1"),
    ({"accept": {"recipes": ["0f" * 32]}}, "accept.recipes does not list this run's recipe"),
    ({"send": {"allow": ["projector", "counts", "losses"]}}, "method shared-basis needs second moments, gram matrices"),
    ({"send": {"allow": ["losses"]}}, "method fedavg needs projector, counts from a site"),
    ({"limits": {"disk_gb": 1e-9}}, "limits.disk_gb"),
]


@pytest.mark.parametrize(("sections", "reason"), NOT_ACCEPTED)
def test_what_the_site_does_not_accept_is_refused_before_anything_is_read(files, tmp_path, sections, reason):
    if "limits" in sections:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "old").write_bytes(bytes(100))
    server, said = fresh(files, tmp_path, **sections)
    answer = server.invite()
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert reason in answer.reason
    assert said == [f"refused: {answer.reason}"]  # both sides see the same line
    assert not (tmp_path / "state" / "runs").exists()
    assert not (tmp_path / "state" / "cache").exists()


def test_the_recipe_that_is_listed_is_accepted(files, tmp_path):
    server, _ = fresh(files, tmp_path, "fedavg")
    digest = hashlib.sha256(server.text.encode()).hexdigest()
    server.trainer = Trainer(site_of(files, "north", tmp_path / "state", accept={"recipes": [digest]}))
    assert server.invite().message == "admission"


@pytest.mark.parametrize("text", ["", "[run", '[run]\nmethods = ["centralized"]\n[data]\nnum_pairs = 1\n', "a = 1"])
def test_a_recipe_that_is_none_is_refused(files, tmp_path, text):
    server, _ = fresh(files, tmp_path)
    server.text = text
    answer = server.invite()
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert "\n" not in answer.reason


def test_more_memory_than_the_site_gives_is_refused(files, tmp_path):
    server, said = fresh(files, tmp_path, "fedavg", limits={"memory_gb": 0.001})
    answer = server.invite()
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert answer.reason.startswith("more than the site allows or has: memory: needs up to ")
    assert "1.0 MB available" in answer.reason
    assert said[-1] == f"refused: {answer.reason}"


def test_features_that_would_not_fit_are_refused_before_they_are_made(files, tmp_path):
    server, _ = fresh(files, tmp_path, "fedavg", limits={"disk_gb": 1e-4})
    answer = server.invite()
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert "frozen features need" in answer.reason
    assert str(tmp_path) not in answer.reason
    assert folder_bytes(tmp_path / "state") < 1e5


def test_a_site_becomes_no_other_client_within_a_run(placed):
    assert placed.server.place(0, 0).message == "holding"
    for client, position in ((1, 0), (0, 60)):
        answer = placed.server.place(client, position)
        assert (answer.message, answer.accepted) == ("refusal", False)
        assert answer.reason.startswith("this site is client 0 of the run")
    assert not list((placed.state / "runs" / RUN).glob("prepared-60"))


MORE = [
    ({"objective": "moon"}, "its objective is not what the run's recipe says"),
    ({"step": "canonical"}, "its step is not what the run's recipe says"),
    ({"extras": ["input_gram"]}, "its extras is not what the run's recipe says"),
    ({"with_second_moment": True}, "its with_second_moment is not what the run's recipe says"),
    ({"learning_rate": 1.0}, "its learning_rate is not what the run's recipe says"),
    ({"keep_optimizer": True}, "its keep_optimizer is not what the run's recipe says"),
    ({"round": 3}, "the run has 2"),
    ({"state": {}}, "they are none; they must be linear_1.weight"),
    ({"state": {"linear_1.weight": torch.ones(2)}}, "they must be linear_1.weight"),
]


@pytest.mark.parametrize(("changes", "reason"), MORE)
def test_an_assignment_beyond_the_recipe_is_refused(placed, changes, reason):
    asked = vars(placed.server.assignment()) | changes
    answer = placed.server.train(Assignment(**asked))
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert reason in answer.reason
    assert placed.said[-1] == f"refused: {answer.reason}"


def test_tensors_of_another_shape_are_refused_wherever_they_come(placed):
    state = placed.server.assignment().state
    wrong = {name: tensor[:1] for name, tensor in state.items()}
    whole = {name: torch.ones(tensor.shape, dtype=torch.int64) for name, tensor in state.items()}
    for tensors in (wrong, whole):
        answer = placed.server.judge(state=tensors)
        assert (answer.message, answer.accepted) == ("refusal", False)
        assert "linear_1.weight is " in answer.reason
    basis = {"canonical_basis": {"linear_1.weight": torch.eye(3)}}
    asked = vars(placed.server.assignment("shared-basis")) | {"public": basis}
    answer = placed.server.train(Assignment(**asked), "shared-basis")
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert "canonical basis of linear_1.weight is (3, 3)" in answer.reason


def test_no_method_but_the_runs_own(placed):
    for answer in (
        placed.server.train(placed.server.assignment(), "moon"),
        placed.server.train(placed.server.assignment(), "../../../elsewhere"),
        placed.server.judge("moon", state=placed.server.assignment().state),
    ):
        assert (answer.message, answer.accepted) == ("refusal", False)
        assert "is not one of this run's: fedavg, shared-basis, scaffold" in answer.reason


def test_losses_are_not_told_where_they_are_not_allowed(files, tmp_path, begun_state):
    at = At(files, tmp_path, begun_state, send={"allow": [kind for kind in SENDABLE if kind != "losses"]})
    answer = at.server.judge()
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert "losses are not in send.allow" in answer.reason
    reply = at.server.train()
    assert reply.figures.keys() == {"update_norm", "learning_rate"}
    assert at.log()[-1]["what"] == ["projector", "alignment error", "counts"]


@pytest.mark.parametrize("kind", ["second moments", "gram matrices", "control variates"])
def test_a_site_file_that_was_tightened_counts_for_a_run_under_way_too(placed, kind):
    method = "scaffold" if kind == "control variates" else "shared-basis"
    assert isinstance(placed.server.train(), Reply)
    allow = [one for one in SENDABLE if one != kind]
    server = placed.restarted(send=placed.site.send.model_copy(update={"allow": allow}))
    answer = server.train(method=method)
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert f"method {method} needs {kind} from a site: not in send.allow" in answer.reason


def test_a_late_or_replayed_request_is_not_carried_out(placed):
    first = placed.server.training().to_tensors()
    assert placed.server.judge().message == "judged"
    for trainer in (placed.trainer, Trainer(placed.site)):  # also one that was started again
        answer = read_answer(*trainer.answer(*first))
        assert answer.message == "refusal"
        assert "late, or replayed" in answer.reason
    assert isinstance(placed.server.train(), Reply)
    older = placed.server.again(placed.trainer)
    older.attempt, older.number = 1, 10**6
    assert "late, or replayed" in older.judge().reason


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"message": "training", "version": 2},
        {"message": "invitation", "version": 2, "run": "../../x"},
        {"message": "reply"},
        {"version": 2, "message": "collecting"},
    ],
)
def test_what_is_no_request_is_refused_and_noted(placed, header):
    answer = read_answer(*placed.trainer.answer(header, {}))
    assert (answer.message, answer.accepted) == ("refusal", False)
    assert answer.reason.startswith("malformed request: ")
    assert placed.log()[-1]["reason"] == answer.reason
    assert placed.said[-1] == f"refused: {answer.reason}"
    assert read_answer(*placed.trainer.malformed(ValueError("malformed frame: \x1b[2J"))).reason.endswith("\\x1b[2J")


WHATEVER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_comes_is_answered(placed, data):
    """No exception, no other answer than a refusal, or one that says that the run or the job is not known."""
    server = placed.server
    requests = [
        server.training(measured, method)
        for measured, method in ((server.assignment(), "fedavg"), (server.assignment("shared-basis"), "shared-basis"))
    ]
    requests.append(Placement(**server.head(), client=1, clients=3, first_position=7))
    header, tensors = data.draw(st.sampled_from(requests)).to_tensors()
    place = header["assignment"] if "assignment" in header and data.draw(st.booleans()) else header
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(WHATEVER)
    header["patience"] = header["patience"] if isinstance(header["patience"], str) else 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_job_of", lambda *_: Job("0f" * 32, lambda _job: NotKnown(what="run").to_tensors()))
        answer = read_answer(*placed.trainer.answer(header, tensors))
    assert answer.message in ("refusal", "not known", "working")
    assert "trainer failed" not in getattr(answer, "reason", "")


def test_what_is_handed_over_is_kept_once_and_nothing_else_is(placed):
    server, state = placed.server, placed.server.assignment().state
    models = placed.state / "models"
    for _ in range(2):
        assert server.ask(Handover(**server.head(), method="fedavg", round=2, state=state)) == Kept()
    assert sum("what was trained is in" in line for line in placed.said) == 1
    assert [path.name for path in models.glob("*/*")] == ["fedavg"]
    wrong = {name: tensor[:1] for name, tensor in state.items()}
    for method, tensors, reason in (
        ("fedavg", wrong, "linear_1.weight as handed over"),
        ("moon", state, "method moon"),
    ):
        answer = server.ask(Handover(**server.head(), method=method, round=2, state=tensors))
        assert (answer.message, answer.accepted) == ("refusal", False)
        assert reason in answer.reason
        assert placed.said[-1] == f"refused: {answer.reason}"
    assert placed.log()[-3]["message"] == "kept"
    assert placed.log()[-3]["what"] == []


# what a site notes, and what leaves


def test_every_message_that_leaves_has_a_line_with_its_bytes_and_their_hash(placed):
    before = len(placed.log())
    server = placed.server
    frames = [
        server.frame(server.training()),
        server.frame(server.training(server.assignment("shared-basis"), "shared-basis")),
        server.frame(server.training(server.assignment(), "moon")),
        placed.trainer.answer({"message": "nothing"}, {}),
    ]
    lines = placed.log()[before:]
    assert len(lines) == len(frames)
    for line, (header, tensors) in zip(lines, frames, strict=True):
        sent = header_bytes(header) + body_bytes(tensors)
        assert line["bytes"] == len(sent)
        assert line["sha256"] == hashlib.sha256(sent).hexdigest()
        assert line["message"] == header["message"]
    assert lines[0]["what"] == ["projector", "losses", "alignment error", "counts"]
    assert lines[1]["what"][:3] == ["projector", "second moments", "gram matrices"]
    assert [line["what"] for line in lines[2:]] == [[], []]


def test_an_answer_is_noted_before_it_leaves_and_one_that_cannot_be_noted_does_not(placed, monkeypatch):
    def full(*_args, **_options):
        raise cannot_be_written(placed.state / "sent.jsonl", OSError(28, "No space left on device"))

    monkeypatch.setattr(trainer_module.SentLog, "add", full)
    answer = placed.server.train()
    assert (answer.message, answer.accepted) == ("refusal", True)
    assert answer.reason == "the site cannot write its log of what it sends"
    assert placed.said[-1].startswith("nothing is sent: ")
    monkeypatch.undo()
    assert isinstance(placed.server.train(), Reply)


def test_the_sites_own_trouble_names_no_file_of_its_own_to_the_server(placed):
    asked = placed.server.assignment("scaffold")
    answer = placed.server.train(asked.continuing(1), "scaffold")  # of which the site has no state
    assert (answer.message, answer.accepted) == ("refusal", True)
    assert answer.reason == "the site could not do it; its own log says why"
    assert str(placed.state / "runs" / RUN / "methods" / "scaffold" / "round-0001.safetensors") in placed.said[-1]
    assert isinstance(placed.server.train(asked, "scaffold"), Reply)


# once, whatever happens


def test_a_job_that_is_asked_for_twice_is_done_once(placed, monkeypatch):
    trained, go_on = [], threading.Event()
    train = SiteEngine.train

    def slow(self, *arguments):
        trained.append(arguments)
        go_on.wait(30)
        return train(self, *arguments)

    monkeypatch.setattr(SiteEngine, "train", slow)
    assignment, frames, ticket = placed.server.assignment(), [], placed.state / "runs" / RUN / "ticket.json"
    requests = [placed.server.training(assignment) for _ in range(3)]
    threads = [threading.Thread(target=lambda one=one: frames.append(placed.server.frame(one))) for one in requests]
    for request, thread in zip(requests, threads, strict=True):
        thread.start()
        while json.loads(ticket.read_text()) != list(request.ticket):
            time.sleep(0.01)  # they come in the order of their tickets
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(trained) == 1
    assert len({header_bytes(header) + body_bytes(tensors) for header, tensors in frames}) == 1
    assert isinstance(read_answer(*frames[0]), Reply)


def test_who_is_impatient_asks_again_for_the_answer(placed, monkeypatch):
    go_on = threading.Event()
    train = SiteEngine.train
    monkeypatch.setattr(SiteEngine, "train", lambda self, *given: go_on.wait(30) and train(self, *given))
    request = placed.server.training(patience=0.0)
    first = placed.server.ask(request)
    assert isinstance(first, Working)
    assert first.job == request.job
    assert isinstance(placed.server.collect(first.job, patience=0.05), Working)
    go_on.set()
    assert isinstance(placed.server.collect(first.job), Reply)
    assert isinstance(placed.server.collect(first.job), Reply)
    assert placed.server.collect("1e" * 32) == NotKnown(what="job")


def test_a_reply_that_is_asked_for_after_a_restart_is_the_same_bytes_and_nothing_is_trained_or_loaded(
    placed, monkeypatch
):
    assignment = placed.server.assignment("scaffold")
    frame = placed.server.frame(placed.server.training(assignment, "scaffold"))
    server = placed.restarted()
    monkeypatch.setattr(trainer_module, "load_language", lambda *_: pytest.fail("loaded"))
    again = server.frame(server.training(assignment, "scaffold"))
    assert header_bytes(again[0]) + body_bytes(again[1]) == header_bytes(frame[0]) + body_bytes(frame[1])
    assert placed.log()[-1]["sha256"] == placed.log()[-2]["sha256"]


def test_another_job_stops_the_one_under_way(placed, monkeypatch):
    stepping, count = threading.Event(), []
    step = Job.step

    def slow(self):
        step(self)
        count.append(self.name)
        stepping.set()
        time.sleep(0.1)

    monkeypatch.setattr(Job, "step", slow)
    first = placed.server.training(patience=0.0)
    assert isinstance(placed.server.ask(first), Working)
    assert stepping.wait(60)
    second = placed.server.assignment("scaffold")
    assert isinstance(placed.server.train(second, "scaffold"), Reply)
    assert placed.server.collect(first.job) == NotKnown(what="job")
    assert placed.trainer._runs[RUN].kept_reply("fedavg", first.job) is None


@pytest.mark.parametrize("method", ["fedavg", "scaffold"])
def test_a_trainer_that_ended_in_the_middle_continues_there(files, tmp_path, begun_state, method, monkeypatch):
    """As after a kill: nothing but what was on disk is left. save_seconds is 0.01."""
    (tmp_path / "whole").mkdir()
    whole = At(files, tmp_path / "whole", begun_state).server.train(method=method)
    at = At(files, tmp_path, begun_state)
    steps, step = [], trainer_module.Trainer._step

    def until_the_second(self):
        step(self)
        steps.append(1)
        time.sleep(0.02)
        if len(steps) == 2:
            raise SystemExit

    monkeypatch.setattr(trainer_module.Trainer, "_step", until_the_second)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    assert at.server.train(method=method) == NotKnown(what="job")  # its thread is gone
    server = at.restarted()
    continued = server.train(method=method)
    assert len(steps) == 3  # of three: none was done twice
    assert tensors_of(continued) == tensors_of(whole)
    assert continued.figures == whole.figures


def test_an_opening_round_and_the_round_after_it_are_two_jobs(placed):
    opening = placed.server.assignment("shared-basis", measure_only=True)
    first = placed.server.train(opening, "shared-basis")
    second = placed.server.train(method="shared-basis")
    assert (first.measure_only, second.measure_only) == (True, False)
    assert not first.figures.get("loss")


def test_a_file_that_goes_while_the_folder_is_measured_counts_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_bytes(bytes(100))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert 200 <= folder_bytes(tmp_path) < 400
    monkeypatch.setattr("os.walk", lambda _: [(str(tmp_path), [], ["a", "went"])])
    assert folder_bytes(tmp_path) == 100
    assert folder_bytes(tmp_path / "nowhere") in (0, 100)


def test_requests_of_runs_that_are_never_accepted_leave_nothing_behind(files, tmp_path):
    server, _ = fresh(files, tmp_path, accept={"methods": ["moon"]})
    for number in range(20):
        server.run = f"{number:032x}"
        assert server.invite().message == "refusal"
        assert server.train(Assignment(1, 0.1, forms("float32"))) == NotKnown(what="run")
    assert server.trainer._runs == {}
    assert not (tmp_path / "state" / "runs").exists()


def test_a_refusal_names_no_more_than_one_line(placed):
    placed.server.text = "[run]\nmethods = ['\\u001b[2J']\n[data]\nnum_pairs = 1\n"
    answer = placed.server.invite()
    assert isinstance(answer, Refusal)
    assert answer.reason.isprintable()
