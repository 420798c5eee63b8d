"""Rounds over real Flower on one machine, ours beside Flower's own quickstart: seconds a round, memory a process.

    python benchmarks/federation_flower.py [--sizes 1M 21M] [--out results/federation_flower.md]

One SuperLink and three SuperNodes as processes on the loopback, TLS and registered keys on, trainers that do next to
nothing, FedAvg, the same sizes in turn:
    fedcmp      `fedcmp serve` and three times `fedcmp join`, whose trainer is fake_sites.py
    Flower      flower-superlink, three flower-supernode and `flwr run` of flower_quickstart/, as its documentation says
A round's time is from one round's end to the next's; the first is left out. Memory is the kernel's peak (VmHWM) of each
process, looked at ten times a second; of processes of a kind, the largest.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = {"1M": (512, 768), "21M": (1024, 4096)}
SITES = 3
QUIET = 1.0
RECIPE = """\
[run]
name = "run"
methods = ["fedavg"]
[model]
vision = "sites/own"
language = "sites/own"
[federation]
rounds = {rounds}
[training]
learning_rate = 1e-3
[deployment]
sites = {sites}
judge = "none"
"""
SITE = """\
[site]
name = "{name}"
server = "127.0.0.1:{port}"
[data]
format = "llava"
pairs = "pairs.json"
"""
KINDS = {  # the first that is in a process's command line
    "fake_sites": "trainer",
    "deployment.superlink": "SuperLink",
    "flower-superlink": "SuperLink",
    "flower_supernode": "SuperNode",
    "flower-supernode": "SuperNode",
    "--kind server": "server app",
    "--kind client": "client app",
    "flwr-serverapp": "server app",
    "flwr-clientapp": "client app",
    "flower-superexec": "app starter",
    "--serve": "supervisor",
    "--join": "supervisor",
}


class Memory:
    """The largest VmHWM of the processes below this one, by kind."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for process in descendants(os.getpid()):
                with suppress(OSError, IndexError):
                    command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    kind = next((kind for part, kind in KINDS.items() if part in command), None)
                    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
                    if kind and found:
                        self.peaks[kind] = max(self.peaks.get(kind, 0), int(found[1]) * 1024)


def descendants(process: int) -> list[int]:
    """All processes below one."""
    found = []
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError):
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
    quiet |= {
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    return os.environ | quiet | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"} | more


@contextmanager
def started(log: Path, *command: str, **more: str):
    """A process with all that it starts, ended at the end."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment(**more), process_group=0, cwd=log.parent
        )
    try:
        yield process
    finally:
        below = descendants(process.pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for child in below:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def wait_for(log: Path, words: str, times: int = 1, seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while log.read_text(errors="replace").count(words) < times:
        if time.monotonic() > until:
            raise RuntimeError(f"{words!r} was not said:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def ours(folder: Path, widths: tuple[int, int], rounds: int) -> tuple[list[float], dict[str, int]]:
    """Ends of the rounds, and memory, of a federation that `fedcmp serve` and `fedcmp join` run."""
    from fedcmp.deployment.certificates import make_authority, make_server_certificate
    from fedcmp.deployment.server_folder import ServerFolder
    from fedcmp.deployment.site_keys import make_site_key, public_path, register_site

    names, port = [f"site-{number}" for number in range(SITES)], free_port()
    server = ServerFolder(folder / "server")
    server.home.mkdir(mode=0o700)
    certificates = make_authority(server.certificates.folder)
    make_server_certificate(certificates, ["127.0.0.1"])
    for name in names:
        site = folder / name
        site.mkdir(mode=0o700)
        (site / "pairs.json").write_text("[]")
        (site / "ca.pem").write_bytes(certificates.authority.read_bytes())
        make_site_key(site / "site.key", name)
        register_site(server.sites, name, public_path(site / "site.key"))
        (site / "SITE.toml").write_text(SITE.format(name=name, port=port))
    recipe = server.home / "federation.toml"
    recipe.write_text(RECIPE.format(rounds=rounds, sites=json.dumps(names)))
    me, said = [sys.executable, str(HERE / "federation_flower.py")], {"FAKE_WIDTHS": f"{widths[0]} {widths[1]}"}
    (folder / "serve.log").touch()
    with Memory() as memory, ExitStack() as running:
        serving = running.enter_context(started(folder / "serve.log", *me, "--serve", str(recipe), str(port)))
        for name in names:
            join = [*me, "--join", str(folder / name / "SITE.toml")]
            running.enter_context(started(folder / f"{name}.log", *join, **said))
        ends = ends_of_rounds(server.home, serving, folder / "serve.log")
    return ends, memory.peaks


def ends_of_rounds(home: Path, serving: "subprocess.Popen[bytes]", log: Path) -> list[float]:
    """When each round's checkpoint appeared."""
    ends: dict[str, float] = {}
    until = time.monotonic() + 1800
    while serving.poll() is None and time.monotonic() < until:
        for place in home.glob("runs/run/checkpoints/round-*"):
            ends.setdefault(place.name, time.monotonic())
        time.sleep(0.02)
    if serving.poll() != 0:
        raise RuntimeError(f"fedcmp serve ended with {serving.poll()}:\n{log.read_text(errors='replace')[-3000:]}")
    return [ends[name] for name in sorted(ends)]


def quickstart(folder: Path, widths: tuple[int, int], rounds: int) -> tuple[list[float], dict[str, int]]:
    """The same of Flower's own quickstart."""
    port, home = free_port(), folder / "flower"
    home.mkdir()
    make_keys(folder)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "lab"\n[superlink.lab]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{folder / "ca.crt"}"\n'
    )
    log = folder / "superlink.log"
    log.touch()
    said = {"FLWR_HOME": str(home)}
    options = ["--ssl-ca-certfile", "ca.crt", "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key"]
    options += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    ends, lines = [], []
    with Memory() as memory, ExitStack() as running:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        running.enter_context(started(log, "flower-superlink", *address, *options, **said))
        register(folder, said)
        for number in range(SITES):
            running.enter_context(started(folder / f"node{number}.log", *node(number, port), **said))
        time.sleep(10)  # for the nodes to connect
        config = f"num-server-rounds={rounds} vision-width={widths[0]} text-width={widths[1]}"
        command = ["flwr", "run", str(HERE / "flower_quickstart"), "lab", "--stream", "--run-config", config]
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(**said)
        )
        assert run.stdout is not None
        for line in run.stdout:
            lines.append(line)
            if "Aggregated MetricRecord" in line:
                ends.append(time.monotonic())
        run.wait()
    if len(ends) != rounds:
        raise RuntimeError("".join(lines[-60:]))
    return ends, memory.peaks


def node(number: int, port: int) -> list[str]:
    command = ["flower-supernode", "--superlink", f"127.0.0.1:{port}", "--root-certificates", "ca.crt"]
    command += ["--auth-supernode-private-key", f"node{number}", "--port", str(free_port())]
    return [*command, "--node-config", f"partition-id={number} num-partitions={SITES}"]


def register(folder: Path, said: dict[str, str]) -> None:
    until = time.monotonic() + 90
    for number in range(SITES):
        command = ["flwr", "supernode", "register", f"node{number}.pub", "lab"]
        while subprocess.run(command, cwd=folder, env=environment(**said), capture_output=True).returncode:
            if time.monotonic() > until:
                raise RuntimeError((folder / "superlink.log").read_text()[-3000:])
            time.sleep(1)


def make_keys(folder: Path) -> None:
    """An authority, the server's certificate and the nodes' keys, by the commands that Flower's documentation gives."""
    (folder / "ext.cnf").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"
    )
    authority = (
        "-subj /CN=lab-ca -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
    )
    commands = [
        "openssl genrsa -out ca.key 2048",
        f"openssl req -x509 -new -key ca.key -sha256 -days 30 {authority} -out ca.crt",
        "openssl genrsa -out server.key 2048",
        "openssl req -new -key server.key -subj /CN=localhost -out server.csr",
        "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -sha256 -extfile ext.cnf "
        "-out server.pem",
    ]
    for command in commands:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    for number in range(SITES):
        command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", f"node{number}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def lines_written() -> str:
    """What a user writes; blank lines, comments and docstrings are not counted."""
    app = HERE / "flower_quickstart"
    task, apps = app / "quickstart" / "task.py", sorted((app / "quickstart").glob("*_app.py"))
    counts = [sum(written(path.read_text(encoding="utf-8")) for path in paths) for paths in (apps, [task])]
    settings = written((app / "pyproject.toml").read_text(encoding="utf-8"))
    return (
        f"Lines that a user writes: Flower {sum(counts) + settings} ({counts[0]} of its apps, {counts[1]} of a model "
        f"and a training that trains nothing, {settings} of pyproject.toml); fedcmp {written(RECIPE)} of a recipe and "
        f"{written(SITE)} per site, for a model that is trained."
    )


def written(text: str) -> int:
    text = re.sub(r'"""(?!\\).*?"""', "", text, flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


def row(name: str, size: str, ends: list[list[float]], peaks: dict[str, int]) -> str:
    rounds = sorted(after - before for run in ends for before, after in pairwise(run))
    cells = [f"{peaks[kind] / 2**20:,.0f}" if kind in peaks else "-" for kind in COLUMNS]
    return f"| {name} | {size} | {rounds[0]:.2f} s | {rounds[len(rounds) // 2]:.2f} s | {' | '.join(cells)} |"


COLUMNS = ["SuperLink", "server app", "SuperNode", "client app", "trainer", "app starter", "supervisor"]


def wait_for_quiet(most: float) -> None:
    until = time.monotonic() + most
    while os.getloadavg()[0] > QUIET and time.monotonic() < until:
        time.sleep(5)


def main() -> None:
    if sys.argv[1:2] in (["--serve"], ["--join"]):
        run_verb()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends as well
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6, help="of a run; the first is not timed")
    parser.add_argument("--only", choices=["fedcmp", "Flower"])
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for a load below 1 before a run")
    parser.add_argument("--out", type=Path, help="also write what is printed there")
    given = parser.parse_args()
    lines = [
        "# Rounds over Flower",
        "",
        "## Beside the quickstart",
        "",
        f"| {SITES} sites, FedAvg | parameters | best round | median | {' | '.join(f'{c}, MiB' for c in COLUMNS)} |",
        f"|{'---|' * (4 + len(COLUMNS))}",
    ]
    contenders = {"fedcmp": ours, "Flower": quickstart}
    for size in given.sizes:
        ends: dict[str, list[list[float]]] = {name: [] for name in contenders}
        peaks: dict[str, dict[str, int]] = {name: {} for name in contenders}
        for _ in range(given.repeats):  # in turn, so that what else the machine does is shared
            for name, run in contenders.items():
                if given.only not in (None, name):
                    continue
                wait_for_quiet(given.patience)
                with tempfile.TemporaryDirectory(prefix="flower-", dir="/tmp") as folder:
                    found, memory = run(Path(folder), SIZES[size], given.rounds)
                ends[name].append(found)
                peaks[name] |= {kind: max(peak, peaks[name].get(kind, 0)) for kind, peak in memory.items()}
                print(name, size, [round(b - a, 2) for a, b in pairwise(found)], file=sys.stderr)
        lines += [row(name, size, ends[name], peaks[name]) for name in contenders if ends[name]]
    runs = f"{given.repeats} runs each, in turn" if given.repeats > 1 else "One run each"
    lines += ["", f"{runs}, {given.rounds - 1} rounds timed, {os.cpu_count()} cores. {lines_written()}"]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_verb() -> None:
    """`fedcmp serve` or `fedcmp join`, whose trainer is a fake one."""
    from fedcmp.config import load_recipe
    from fedcmp.deployment.hosting import Address
    from fedcmp.deployment.joining import Joining, join
    from fedcmp.deployment.server_folder import open_server_folder
    from fedcmp.deployment.serving import Work, serve
    from fedcmp.deployment.site_file import read_site

    def say(line: str) -> None:
        print(line, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = Path(sys.argv[2])
    if sys.argv[1] == "--join":
        join(Joining(path, read_site(path).site, trainer="fake_sites"), say)
        return
    address = Address("127.0.0.1", int(sys.argv[3]))
    serve(open_server_folder(path.parent), Work(path, load_recipe(path)), address, say)


if __name__ == "__main__":
    main()
