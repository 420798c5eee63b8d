"""The socket between a site's ClientApps and its trainer: a frame in, a frame out, for the site's own user alone."""

import io
import os
import socket
import stat
import struct
import threading
from contextlib import contextmanager

import pytest
import torch

from fedcmp.deployment import trainer_socket
from fedcmp.deployment.trainer_socket import TrainerSocket
from fedcmp.errors import UserError
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.site_limits import MOST_BODY, MOST_HEADER
from fedcmp.wire.site_messages import NotKnown, Refusal


@pytest.fixture
def folder(tmp_path_factory):
    """A socket's path must be short."""
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o700)
    return folder


@contextmanager
def serving(path, answering=lambda header, tensors: (header, tensors)):
    def malformed(error):
        return Refusal(reason=str(error), accepted=False).to_tensors()

    with TrainerSocket(path, answering, malformed) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def connected(path):
    with socket.socket(socket.AF_UNIX) as own:
        own.settimeout(20)
        own.connect(str(path))
        with own.makefile("rwb") as stream:
            yield own, stream


def exchange(path, data):
    """Send bytes, and read the frame that comes back."""
    with connected(path) as (own, stream):
        stream.write(data)
        stream.flush()
        own.shutdown(socket.SHUT_WR)
        return read_frame(stream)


def frame_of(header, tensors):
    stream = io.BytesIO()
    write_frame(stream, header, tensors)
    return stream.getvalue()


def test_a_frame_is_answered_by_a_frame(folder):
    with serving(folder / "s", lambda header, tensors: ({"got": header}, {"twice": tensors["w"] * 2})):
        header, tensors = exchange(folder / "s", frame_of({"op": 1}, {"w": torch.ones(3)}))
    assert header == {"got": {"op": 1}}
    assert tensors["twice"].tolist() == [2.0, 2.0, 2.0]


def test_callers_do_not_wait_for_each_other(folder):
    meeting = threading.Barrier(3, timeout=20)

    def answering(header, tensors):
        meeting.wait()
        return header, tensors

    found = []
    with serving(folder / "s", answering):
        callers = [
            threading.Thread(target=lambda n=n: found.append(exchange(folder / "s", frame_of({"n": n}, {}))[0]["n"]))
            for n in range(3)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
    assert sorted(found) == [0, 1, 2]


def test_only_its_own_user_can_open_it(folder, monkeypatch):
    with serving(folder / "s"):
        assert not stat.S_IMODE((folder / "s").stat().st_mode) & 0o077
        monkeypatch.setattr(trainer_socket.os, "getuid", lambda: os.geteuid() + 1)
        with pytest.raises((EOFError, ConnectionError)):
            exchange(folder / "s", frame_of({"op": 1}, {}))


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_others_can_look_into_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(UserError, match="others can look into it; a trainer's socket needs a folder of mode 0700"):
        TrainerSocket(folder / "s", lambda *_: None, lambda _: None)
    assert not (folder / "s").exists()


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    monkeypatch.setattr(trainer_socket.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(UserError, match="others can look into it"):
        TrainerSocket(folder / "s", lambda *_: None, lambda _: None)


def test_a_folder_that_is_not_there_is_named(folder):
    with pytest.raises(UserError, match=r"nowhere: cannot be looked into"):
        TrainerSocket(folder / "nowhere" / "s", lambda *_: None, lambda _: None)


def test_a_path_that_is_too_long_for_a_socket_is_named(folder):
    with pytest.raises(UserError, match="a socket's path has 107 bytes at most; name a shorter one"):
        TrainerSocket(folder / ("x" * 108), lambda *_: None, lambda _: None)


def test_what_a_killed_trainer_left_behind_is_taken_over(folder):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(folder / "s"))
    with serving(folder / "s"):
        assert exchange(folder / "s", frame_of({"op": 1}, {}))[0] == {"op": 1}


def test_a_trainer_that_lives_is_not_put_out(folder):
    with serving(folder / "s"):
        with pytest.raises(UserError, match="another trainer answers there; one site is joined once"):
            TrainerSocket(folder / "s", lambda *_: None, lambda _: None)
        assert exchange(folder / "s", frame_of({"op": 1}, {}))[0] == {"op": 1}


MALFORMED = [
    struct.pack("<IQ", 2, 0) + b"[]",
    struct.pack("<IQ", 3, 0) + b"{no",
    struct.pack("<IQ", 2, 9) + b"{}" + b"no tensor",
    struct.pack("<IQ", MOST_HEADER + 1, 0),
    struct.pack("<IQ", 2, MOST_BODY + 1),
    struct.pack("<IQ", 2**32 - 1, 2**64 - 1),
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_what_is_no_frame_is_refused_and_the_next_one_answered(folder, data):
    with serving(folder / "s"):
        header, tensors = exchange(folder / "s", data)
        assert (header["message"], header["accepted"], tensors) == ("refusal", False, {})
        assert header["reason"].startswith("malformed frame: ")
        assert exchange(folder / "s", frame_of({"op": 1}, {}))[0] == {"op": 1}


def test_a_caller_that_goes_in_the_middle_ends_nothing(folder, capsys):
    whole, answered = frame_of({"op": 1}, {"w": torch.ones(1000)}), threading.Event()

    def answering(header, tensors):
        answered.set()
        return NotKnown(what="job").to_tensors()

    with serving(folder / "s", answering):
        for cut in (0, 5, 12, 20, len(whole) - 1):
            with connected(folder / "s") as (_, stream):
                stream.write(whole[:cut])
                stream.flush()
        assert not answered.is_set()
        with connected(folder / "s") as (own, stream):
            stream.write(whole)
            stream.flush()
            own.shutdown(socket.SHUT_RDWR)
        assert answered.wait(20)
        assert exchange(folder / "s", whole)[0]["message"] == "not known"
    assert "Traceback" not in capsys.readouterr().err
