"""`fedcmp join`: a site's processes, kept going until the command is told to end.

    trainer         holds model and pairs, listens on a socket of this machine (fedcmp.deployment.trainer)
    SuperNode       Flower's; fetches messages from the server, brings replies back
    apps            apps.py; hands each message to the trainer and its answer to the SuperNode

The trainer outlives the other two: whatever happens to the connection, a part under way goes on. Where the server
cannot be reached, does not know the site's key, or still holds an earlier connection for alive, the site tries again.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from fedcmp.deployment.addresses import free_port
from fedcmp.deployment.flower_lines import Terse, plain
from fedcmp.deployment.private_files import check_private, private_folder
from fedcmp.deployment.server_folder import CLIENT_APP, QUIET, write_secret
from fedcmp.deployment.site_file import SiteIdentity
from fedcmp.deployment.site_keys import read_site_key
from fedcmp.deployment.supernode import (
    ENTRY,
    MOST_SKEW,
    NodeLine,
    clock_difference,
    free_node,
    node_arguments,
    reach,
    read_node_line,
)
from fedcmp.deployment.supervised import MISTAKE, MISTAKE_CODE, Child, Restarts, end_all
from fedcmp.errors import UserError, WorkerDied
from fedcmp.files import write_whole
from fedcmp.locks import alone_in

TRAINER = "fedcmp.deployment.trainer"
LONGEST_SOCKET = 100  # bytes of a Unix socket's path; Linux takes 107
_TICK_SECONDS = 0.2
_SLOWLY = 15.0  # between two tries where only the server's operator can help
_REMIND = 300.0  # seconds after which the same trouble is said again

Say = Callable[[str], None]


@dataclass(frozen=True)
class Joining:
    """What a site runs.

    Attributes:
        path: the site's file, absolute.
        identity: of the site.
        threads: CPU threads of the trainer.
        trainer: module of the resident trainer; for an edge server, of its half below (edge_server.py).
        name: of that process, for messages and its log.
        client_app: "module:name" of the ClientApp; the server cannot name another.
    """

    path: Path
    identity: SiteIdentity
    threads: int = 1
    trainer: str = TRAINER
    name: str = "trainer"
    client_app: str = CLIENT_APP


def join(joining: Joining, say: Say) -> None:
    """Work for the server until the command is ended.

    Args:
        joining: the site.
        say: called with each line for the user.

    Raises:
        UserError: the key is missing, the server's certificate is not right, or the trainer said what is wrong.
        WorkerDied: the trainer died again and again.
    """
    own = joining.identity
    check_private(own.key)
    private_folder(own.folder)
    with alone_in(own.folder, f"{own.folder}: another `fedcmp join` works there; stop it first"):
        say(f"{own.name}: key {read_site_key(own.key).fingerprint}; server {own.server}")
        first = reach(own.server, own.certificate)
        if first.outcome == "untrusted":
            raise UserError(first.reason)
        with _socket_folder(own.folder) as folder:
            _Site(joining, folder, say).run()


@contextmanager
def _socket_folder(kept: Path) -> Iterator[Path]:
    """Make a private folder for the trainer's socket: a socket's path is short, and some disks take none."""
    note = kept / "socket-folder"
    with suppress(OSError):  # what a killed command left behind
        stale = Path(note.read_text(encoding="utf-8"))
        if stale.name.startswith("fedcmp-") and stale.stat().st_uid == os.getuid():
            shutil.rmtree(stale, ignore_errors=True)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    above = runtime if runtime and len(runtime) < LONGEST_SOCKET // 2 and os.access(runtime, os.W_OK) else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="fedcmp-", dir=above))  # 0700
    try:
        write_whole(note, str(folder).encode())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        note.unlink(missing_ok=True)


@dataclass
class _Trouble:
    """Say the same trouble once in a while, not at every try."""

    say: Say
    last: str = ""
    at: float = field(default=0.0)

    def __call__(self, line: str) -> None:
        if line != self.last or time.monotonic() - self.at > _REMIND:
            self.last, self.at = line, time.monotonic()
            self.say(line)

    def over(self) -> None:
        """Forget it: should it come back, it is news."""
        self.last = ""


class _Site:
    """The processes of a site, and what is done when one of them dies."""

    def __init__(self, joining: Joining, folder: Path, say: Say) -> None:
        self._joining, self._own, self._say = joining, joining.identity, say
        self._socket, self._secret = folder / "trainer.sock", folder / "apps.secret"
        if len(str(self._socket)) > LONGEST_SOCKET:
            raise UserError(
                f"{self._socket}: too long for a socket's path; set TMPDIR or XDG_RUNTIME_DIR to a short one"
            )
        self._logs = self._own.folder / "logs"
        self._last_node = self._own.folder / "node"  # number of the last connection's node
        self._said: SimpleQueue[NodeLine] = SimpleQueue()
        self._trouble = _Trouble(say)
        self._trainer = self._make_trainer()
        self._trainer_restarts, self._trainer_down = Restarts(most=5, quick=30.0), False
        self._node: tuple[Child, Child] | None = None  # SuperNode, apps
        self._node_restarts = Restarts(most=None, quick=30.0, longest=_SLOWLY)
        self._connected = self._refused = False
        self._next_try = 0.0

    def run(self) -> None:
        """Keep everything going until Ctrl-C or SIGTERM."""
        try:
            self._trainer.start()
            while True:
                self._keep_trainer()
                self._keep_node()
                with suppress(Empty):
                    self._hear(self._said.get(timeout=_TICK_SECONDS))
        finally:
            end_all([*reversed(self._node or ()), self._trainer])

    def _keep_trainer(self) -> None:
        name = self._joining.name
        if not self._trainer_down:
            code = self._trainer.ended()
            if code is None:
                return
            if code == MISTAKE_CODE:
                raise UserError(_last(self._trainer).removeprefix(MISTAKE))
            if not self._trainer_restarts.died(self._trainer.seconds):
                raise WorkerDied(f"the {name} died again and again ({_last(self._trainer)}); see {self._logs}")
            self._say(f"the {name} died (exit code {code}); starting it again, it resumes from its last save")
            self._trainer_down = True
        if self._trainer_restarts.due:
            self._trainer.start()
            self._trainer_down = False

    def _keep_node(self) -> None:
        if self._node is None:
            if time.monotonic() >= self._next_try:
                self._try_node()
            return
        supernode, apps = self._node
        if supernode.ended() is not None:
            self._after_node(supernode)
        elif self._connected and not apps.running:
            apps.start()

    def _try_node(self) -> None:
        """Start a SuperNode, if the server is there and is the right one."""
        own = self._own
        found = reach(own.server, own.certificate)
        if found.outcome != "yes":
            self._trouble(f"{found.reason}; trying again")
            self._next_try = time.monotonic() + (_SLOWLY if found.outcome == "untrusted" else 2.0)
            return
        with suppress(OSError, ValueError):  # there was none
            free_node(own.server, own.certificate, own.key, int(self._last_node.read_text(encoding="utf-8")))
        write_secret(self._secret)
        self._connected = self._refused = False
        self._node = self._make_node()
        self._node[0].start()

    def _after_node(self, supernode: Child) -> None:
        """Decide when to try again, now that the SuperNode has ended."""
        end_all(self._node or ())
        while not self._said.empty():
            self._hear(self._said.get())
        self._node = None
        self._node_restarts.died(supernode.seconds)
        self._next_try = time.monotonic() + self._node_restarts.wait
        if self._refused:
            own = self._own
            self._trouble(
                f"refused: the server has not registered this site's key {read_site_key(own.key).fingerprint}, or it "
                f"is in use elsewhere; its operator registers {own.key}.pub with: "
                f"fedcmp keys add HOME {own.name} FILE.pub; trying again"
            )
            self._next_try = time.monotonic() + _SLOWLY
        elif self._connected:
            self._say("connection lost; reconnecting")
        else:
            self._trouble(f"{self._why(supernode)}; trying again")

    def _why(self, supernode: Child) -> str:
        """Return why the SuperNode ended before it was connected."""
        own = self._own
        ahead = clock_difference(own.server, own.certificate)
        if ahead is not None and abs(ahead) > MOST_SKEW:
            which = "ahead of" if ahead > 0 else "behind"
            return (
                f"refused: this machine's clock is {abs(ahead) / 60:.0f} minutes {which} the server's, and what it "
                "signs is out of date; set the clocks"
            )
        return f"the SuperNode ended ({_last(supernode)}); see {self._logs}"

    def _hear(self, said: NodeLine) -> None:
        if said.kind == "connected":
            self._connected = True
            write_whole(self._last_node, said.node.encode(), durable=False)
            self._trouble.over()
            self._say(f"connected to {self._own.server}")
        elif said.kind == "refused":
            self._refused = True
        elif said.kind == "lost":
            self._trouble("the server does not answer; trying again")
        elif said.kind == "back":
            self._trouble.over()
            self._say("the server answers again")

    def _make_trainer(self) -> Child:
        threads, terse = str(self._joining.threads), Terse()

        def heard(line: str) -> None:
            if shown := terse(line):
                self._say(shown)

        return Child(
            self._joining.name,
            [self._joining.trainer, str(self._joining.path), "--socket", str(self._socket)],
            log=self._logs / f"{self._joining.name}.log",
            heard=heard,
            environment={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"},
        )

    def _make_node(self) -> tuple[Child, Child]:
        own = self._own
        environment = {**QUIET, "FLWR_HOME": str(own.folder / "flower")}
        port = own.node_port or free_port()

        def heard(line: str) -> None:
            if said := read_node_line(line):
                self._said.put(said)

        arguments = node_arguments(
            server=own.server,
            authority=own.certificate,
            key=own.key,
            port=port,
            secret=self._secret,
            socket_path=self._socket,
        )
        supernode = Child(
            "supernode",
            [ENTRY, *arguments],
            log=self._logs / "supernode.log",
            heard=heard,
            environment=environment,
            folder=own.folder,
        )
        runtime = ["--runtime", f"127.0.0.1:{port}", "--secret", str(self._secret)]
        apps = Child(
            "apps",
            ["fedcmp.deployment.apps", "--kind", "client", *runtime, "--app", self._joining.client_app],
            log=self._logs / "apps.log",
            environment=environment,
            folder=own.folder,
        )
        return supernode, apps


def _last(child: Child) -> str:
    lines = [plain(line).strip() for line in child.last_lines]
    return lines[-1] if lines else "without a word"
