"""The trainer as the process that a site runs, killed for real in the middle of a part."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.messages import Reply
from fedcmp.wire.site_messages import NotKnown, Working
from tests.deployment.asking import RUN, Server
from tests.deployment.local import pairs_of, recipe_of


class Process:
    """A trainer's process; asked as Trainer is."""

    def __init__(self, folder: Path, data: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.state, self.socket, self.file = folder / "state", folder / "s", folder / "SITE.toml"
        for name in ("ca.pem", "site.key"):
            (folder / name).write_text("")
        site = {"name": "north", "server": "127.0.0.1:9000", "folder": str(self.state)}
        self.file.write_text(tomli_w.dumps({"site": site, "data": data, "limits": {"save_seconds": 0.01}}))
        self.process = self.started()

    def started(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "fedcmp.deployment.trainer", str(self.file), "--socket", str(self.socket)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "the trainer is ready\n"
        return process

    def answer(self, header, tensors):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(300)
            connection.connect(str(self.socket))
            with connection.makefile("rwb") as stream:
                write_frame(stream, header, tensors)
                return read_frame(stream)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def running():
    begun: list[Process] = []

    def run(folder: Path, data: dict[str, object]) -> Process:
        begun.append(Process(folder, data))
        return begun[-1]

    yield run
    for one in begun:
        if one.process.poll() is None:
            one.kill()


def long_part(folder: Path):
    """One round of 48 steps."""
    return recipe_of(folder, "scaffold", federation={"rounds": 1}, training={"batch_size": 1})


@pytest.mark.slow
def test_a_trainer_that_is_killed_in_the_middle_of_a_part_continues_there_to_the_bit(running, tmp_path_factory):
    root = tmp_path_factory.mktemp("k")
    data, recipe = pairs_of(root, "north", "llava"), long_part(root / "server")
    whole = Server(running(root / "a", data), recipe, root / "server").begin().train(method="scaffold")
    trainer = running(root / "b", data)
    server = Server(trainer, recipe, root / "server").begin()
    part = trainer.state / "runs" / RUN / "methods" / "scaffold" / "part.safetensors"
    asked = server.training(method="scaffold", patience=0.0)
    assert isinstance(server.ask(asked), Working)
    until = time.monotonic() + 120
    while not part.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.2)
    trainer.kill()
    assert part.exists()
    trainer.process = trainer.started()  # over the socket that the killed one left behind
    assert server.collect(asked.job) == NotKnown(what="job")
    continued = server.train(asked.assignment, "scaffold")
    assert isinstance(continued, Reply)
    assert continued.figures == whole.figures
    _, expected = whole.to_tensors()
    _, own = continued.to_tensors()
    assert own.keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in own.items())
    lines = (trainer.state / "sent.jsonl").read_text().splitlines()
    assert len(lines) == 5  # admission, holding, working, not known, reply: none was lost
    before = server.frame(server.training(asked.assignment, "scaffold"))
    trainer.kill(signal.SIGTERM)
    assert trainer.process.returncode == 0
    trainer.process = trainer.started()
    header, tensors = server.frame(server.training(asked.assignment, "scaffold"))
    assert header == before[0]
    assert all(tensor.equal(before[1][name]) for name, tensor in tensors.items())


@pytest.mark.slow
def test_a_mistake_in_the_sites_file_ends_it_in_one_line(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "SITE.toml").write_text("[site]\nname = 'north'\n")
    command = [sys.executable, "-m", "fedcmp.deployment.trainer", str(tmp_path / "SITE.toml")]
    done = subprocess.run(
        [*command, "--socket", str(tmp_path / "s")], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
    assert done.stdout.startswith(f"fedcmp: {tmp_path}/SITE.toml: site.server")
    assert done.stdout.count("\n") == 1
