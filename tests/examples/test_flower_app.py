"""examples/flower_app runs: in this process, and once with `flwr run` on SuperLink and SuperNodes of its own."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

APP = Path(__file__).parents[2] / "examples" / "flower_app"
MODULES = ("task", "client_app", "server_app")
CONFIG = {"num-rounds": 3, "lr": 0.01, "checkpoint": ""}


@pytest.fixture
def apps(monkeypatch):
    monkeypatch.syspath_prepend(str(APP))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    from client_app import app as client_app
    from server_app import app as server_app

    yield server_app, client_app
    for name in MODULES:
        sys.modules.pop(name, None)


def run_here(apps, folder, rule, *, nodes=3, **config):
    from fedcmp.federation.flower import run_locally

    result = folder / f"{rule}.safetensors"
    run_locally(*apps, nodes, CONFIG | {"rule": rule, "clients": nodes, "result": str(result)} | config)
    return load_file(result)


def losses(text):
    return [float(line.split("loss ")[1].split(",")[0]) for line in text.splitlines() if line.startswith("round")]


@pytest.mark.parametrize("rule", ["fedavg", "shared-basis", "ties", "fisher"])
def test_the_app_learns_with_any_rule(apps, tmp_path, capsys, rule):
    tensors = run_here(apps, tmp_path, rule)
    first, *_, last = losses(capsys.readouterr().out)
    assert last < 0.9 * first
    assert sorted(tensors) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_flwr_run_on_a_superlink_ends_with_the_bits_of_this_process(apps, tmp_path):
    """Real SuperLink and SuperNodes, a fresh ClientApp process for every message; order_by hides the nodes' numbers."""
    here = run_here(apps, tmp_path, "shared-basis", **{"nodes": 2, "num-rounds": 1})
    link, *nodes = free_ports(3)
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
    )
    binaries = Path(sys.executable).parent
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and path != str(APP)),
    }
    logs = (tmp_path / "log").open("wb")
    processes = []

    def start(*command):
        options = {"env": environment, "cwd": tmp_path, "stdout": logs, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen([str(binaries / command[0]), *command[1:]], **options))

    result = tmp_path / "there.safetensors"
    try:
        start("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link))
        for number, port in enumerate(nodes):
            config = f"partition-id={number} num-partitions=2"
            node = ["--insecure", "--superlink", f"127.0.0.1:{link}", "--port", str(port), "--node-config", config]
            start("flower-supernode", *node)
        overrides = f'num-rounds=1 clients=2 rule="shared-basis" result="{result}"'
        until = time.monotonic() + 120
        while True:
            run = [str(binaries / "flwr"), "run", str(APP), "here", "--run-config", overrides]
            done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            assert time.monotonic() < until, done.stdout + done.stderr
            time.sleep(1)
        until = time.monotonic() + 600
        while not result.exists():
            assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.5)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        logs.close()
    time.sleep(0.5)  # the file is written after it exists
    there = load_file(result)
    assert all(there[name].equal(here[name]) for name in here)
