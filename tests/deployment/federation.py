"""A federation for tests, without pairs: real certificates and keys, real processes, stand-ins for the apps."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fedcmp.deployment.addresses import free_port
from fedcmp.deployment.certificates import make_authority, make_server_certificate
from fedcmp.deployment.server_folder import ServerFolder
from fedcmp.deployment.site_keys import make_site_key, public_path, register_site

PATIENCE = 5  # times the seconds that a test expects something to take: other work may share the cores
ROOT = Path(__file__).resolve().parents[2]


def names(count):
    return [f"site-{number + 1}" for number in range(count)]


@dataclass
class Federation:
    folder: Path
    sites: list[str]
    port: int
    running: list["Running"] = field(default_factory=list)

    @property
    def home(self):
        return self.folder / "server"

    @property
    def recipe(self):
        return self.home / "federation.toml"

    def site_file(self, name):
        return self.folder / name / "SITE.toml"

    def settings(self, **settings):
        (self.home / "settings.json").write_text(json.dumps({"rounds": 2, "sites": len(self.sites), **settings}))

    def rounds(self):
        kept = self.home / "rounds.json"
        return json.loads(kept.read_text()) if kept.exists() else []

    def serve(self, *options):
        return self._start("serve", "serve", str(self.recipe), str(self.port), *options)

    def join(self, name):
        return self._start(name, "join", str(self.site_file(name)))

    def _start(self, name, *arguments):
        log = self.folder / f"{name}-{len(self.running)}.out"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.deployment.run", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            )
        self.running.append(Running(process, log))
        return self.running[-1]


@dataclass
class Running:
    process: subprocess.Popen
    log: Path

    @property
    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, wanted, seconds=60, times=1):
        deadline = time.monotonic() + seconds * PATIENCE
        while self.text.count(wanted) < times:
            assert time.monotonic() < deadline, f"{wanted!r} was not said in {seconds} s:\n{self.text}"
            assert self.process.poll() is None or self.text.count(wanted) >= times, f"ended:\n{self.text}"
            time.sleep(0.1)

    def ends(self, seconds=60):
        try:
            return self.process.wait(timeout=seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {seconds} s:\n{self.text}") from None

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30 * PATIENCE)

    def child(self, words):
        """The number of the process that this one has started with these words in its command."""
        started = children(self.process.pid)
        found = [pid for pid in started if words in command_of(pid)]
        assert len(found) == 1, (words, [command_of(pid) for pid in started])
        return found[0]


def make_federation(folder, count=1, *, registered=True, **settings):
    federation = Federation(folder, names(count), free_port())
    server = ServerFolder(federation.home)
    server.home.mkdir()
    certificates = make_authority(server.certificates.folder)
    make_server_certificate(certificates, ["127.0.0.1"])
    for name in federation.sites:
        site = folder / name
        site.mkdir()
        (site / "pairs.json").write_text("[]")
        (site / "ca.pem").write_bytes(certificates.authority.read_bytes())
        make_site_key(site / "site.key", name)
        if registered:
            register_site(server.sites, name, public_path(site / "site.key"))
        federation.site_file(name).write_text(
            f'[site]\nname = "{name}"\nserver = "127.0.0.1:{federation.port}"\n'
            '[data]\nformat = "llava"\npairs = "pairs.json"\n'
        )
    federation.recipe.write_text(
        '[run]\nname = "test"\nmethods = ["fedavg"]\n[federation]\nrounds = 2\n'
        f"[deployment]\nsites = {federation.sites}\n"
    )
    federation.settings(**settings)
    return federation


def children(pid):
    """Numbers of the processes that one has started."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return found


def descendants(pid):
    """Numbers of all processes below one."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pids):
    """Those that still run; what waits to be reaped does not."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


def gone(pids, seconds=10):
    deadline = time.monotonic() + seconds * PATIENCE
    while left := alive(pids):
        assert time.monotonic() < deadline, [command_of(pid) for pid in left]
        time.sleep(0.1)
