"""A site's ClientApp hands a message to the trainer behind a Unix socket, and its answer back."""

import socket
import threading
import time

import pytest
import torch

pytest.importorskip("flwr")
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedcmp.deployment.trainer_socket import TrainerSocket
from fedcmp.federation.flower import client_app
from fedcmp.federation.flower.client_app import app
from fedcmp.federation.flower.envelope import packed, unpacked
from fedcmp.wire.frames import body_bytes, header_bytes, read_body, read_header
from fedcmp.wire.site_messages import Refusal
from tests.federation.flower.tasks import as_a_task


@pytest.fixture
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o700)
    return folder / "s"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    as_a_task(monkeypatch)
    monkeypatch.setattr(client_app, "_WAIT", 0.5)


def doubled(header, tensors):
    return {"got": header}, {name: tensor * 2 for name, tensor in tensors.items()}


def trainer(place):
    return TrainerSocket(place, doubled, lambda error: Refusal(reason=str(error), accepted=False).to_tensors())


@pytest.fixture
def served(place):
    with trainer(place) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        yield place
        server.shutdown()


def message(header=b'{"op": 1}', body=b"", content=None):
    return Message(content if content is not None else packed(header, body), dst_node_id=1, message_type="train")


def context(**config):
    return Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})


def test_a_message_is_answered_by_the_trainer(served):
    sent = message(header_bytes({"op": 1}), body_bytes({"w": torch.ones(300_000)}))
    answer = app(sent, context(socket=str(served)))
    header, body = unpacked(answer.content)
    assert read_header(header) == {"got": {"op": 1}}
    assert read_body(body)["w"].sum() == 600_000
    assert answer.metadata.dst_node_id == sent.metadata.src_node_id


def test_the_trainer_says_what_is_wrong_with_a_message(served):
    answer = app(message(b"[1]"), context(socket=str(served)))
    assert b"malformed frame: its header is a JSON list" in unpacked(answer.content)[0]


@pytest.mark.parametrize("config", [{}, {"socket": 1}])
def test_a_supernode_without_a_socket_is_named(config):
    with pytest.raises(ValueError, match=r"no node config `socket`: start it by `fedcmp join SITE.toml`"):
        app(message(), context(**config))


def test_a_message_that_is_none_of_ours_does_not_reach_the_trainer(place):
    with pytest.raises(ValueError, match="malformed message: it has no header"):
        app(message(content=RecordDict({"x": ConfigRecord({})})), context(socket=str(place)))


def test_a_trainer_that_is_being_started_is_waited_for(place, monkeypatch):
    monkeypatch.setattr(client_app, "_WAIT", 30.0)

    def later():
        time.sleep(0.4)
        with trainer(place) as server:
            server.handle_request()
            time.sleep(1)

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    assert b"got" in unpacked(app(message(), context(socket=str(place))).content)[0]
    thread.join()


def test_a_trainer_that_does_not_come_is_an_error(place):
    with pytest.raises(OSError):  # noqa: PT011 - no such file, or connection refused
        app(message(), context(socket=str(place)))


@pytest.mark.parametrize(
    "sent", [b"", b"\2\0\0", b"\2\0\0\0" + b"\5" + bytes(7) + b"{}", b"\2\0\0\0" + bytes(8) + b"{"]
)
def test_a_trainer_that_dies_in_the_middle_of_its_answer_is_an_error(place, sent):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()

        def die():
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.sendall(sent)
            connection.close()

        thread = threading.Thread(target=die, daemon=True)
        thread.start()
        with pytest.raises(ConnectionError, match=r"the trainer ended in the middle|reset"):
            app(message(), context(socket=str(place)))
        thread.join()
