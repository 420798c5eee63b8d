"""A SuperLink and a run on it, kept going until the run is over.

    SuperLink       superlink.py; sites come in by its public door
    apps            apps.py; starts the ServerApp of the run

Whatever dies is started again, and the run resumes: the SuperLink keeps nothing on disk, since keys are registered anew
from HOME/sites at every start, and the ServerApp continues from what it has kept. Sites notice that the SuperLink is a
new one and come back by themselves. A run that stops with an error of its own is not tried again.
"""

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from fedcmp.deployment import apps
from fedcmp.deployment.addresses import free_port, joined_address
from fedcmp.deployment.control import Control
from fedcmp.deployment.flower_lines import Terse, plain
from fedcmp.deployment.roster import Roster
from fedcmp.deployment.server_folder import (
    ServerFolder,
    write_app,
    write_flower_settings,
    write_secret,
    write_serving,
)
from fedcmp.deployment.supervised import Child, Restarts, end_all
from fedcmp.errors import UserError, WorkerDied, counted

_TICK_SECONDS = 0.2
_START_SECONDS = 90.0  # for a SuperLink to answer
_RAISED = "ServerApp failed with exception: "

Config = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class Address:
    """Where sites reach a server.

    Attributes:
        host: of this machine; 0.0.0.0 for all of its addresses.
        port: the only one that must be open to the sites.
    """

    host: str = "0.0.0.0"
    port: int = 8443


@dataclass(frozen=True)
class Hosted:
    """The run that a SuperLink is asked for.

    Attributes:
        server_app: "module:name" of its ServerApp.
        client_app: that of the ClientApp, which sites take from their own installation whatever is said here.
        config: given whether it is started again, returns its run config.
        facts: what HOME/serving.json says of it.
        after: what its operator can do where it dies again and again.
    """

    server_app: str
    client_app: str
    config: Callable[[bool], Config]
    facts: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""


def check_port(address: Address, option: str) -> None:
    """Refuse an address that cannot be listened on.

    Args:
        address: of the public door.
        option: where the user gave it, for the message.

    Raises:
        UserError: says so.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        raise UserError(
            f"{option}: cannot be listened on ({error.strerror or error}); choose another port, or stop what uses it"
        ) from None


def host(folder: ServerFolder, hosted: Hosted, address: Address, say: Callable[[str], None]) -> None:
    """Keep a run going until it is over.

    Args:
        folder: HOME, locked by the caller.
        hosted: the run.
        address: where sites reach the server.
        say: called with each line for the user.

    Raises:
        UserError: the run stopped with an error of its own.
        WorkerDied: a process died again and again.
    """
    try:
        _Host(folder, hosted, address, say).run()
    finally:
        folder.serving.unlink(missing_ok=True)


class _ProcessDied(Exception):  # noqa: N818 - says what happened
    """The SuperLink or the process that starts apps died."""


class _RunDied(Exception):  # noqa: N818 - says what happened
    """The ServerApp was killed."""


class _Host:
    """The processes, and what is done when one of them dies."""

    def __init__(self, folder: ServerFolder, hosted: Hosted, address: Address, say: Callable[[str], None]) -> None:
        self._folder, self._hosted, self._address, self._say = folder, hosted, address, say
        self._roster = Roster(folder, say)
        self._events: SimpleQueue[tuple[int, int]] = SimpleQueue()  # runs whose ServerApp has ended, its exit code
        self._restarts = Restarts(most=5, quick=60.0)
        self._is_restart = False
        self._begun = 0.0
        self._run = 0

    def run(self) -> None:
        """Keep the run going until it is over."""
        write_app(self._folder, self._hosted.server_app, self._hosted.client_app)
        while True:
            try:
                with self._processes() as processes:
                    self._run_to_the_end(*processes)
                    return
            except _ProcessDied as died:
                self._again(str(died))

    def _run_to_the_end(self, superlink: Child, starter: Child, control: Control) -> None:
        while True:
            self._start_run(control)
            try:
                self._watch(superlink, starter, control)
                return
            except _RunDied as died:
                control.stop_run(self._run)
                self._again(str(died))

    def _again(self, why: str) -> None:
        if not self._restarts.died(time.monotonic() - self._begun):
            raise WorkerDied(f"{why}, and that again and again; see {self._folder.logs}{self._hosted.after}")
        self._say(f"{why}; starting again, the run resumes")
        self._is_restart = True
        time.sleep(self._restarts.wait)

    @contextmanager
    def _processes(self) -> Iterator[tuple[Child, Child, Control]]:
        """Start the SuperLink, register the sites' keys, start what starts apps; end all of it afterwards."""
        folder, port = self._folder, free_port()
        private = joined_address("127.0.0.1", port)
        write_secret(folder.secret)
        write_flower_settings(folder, private)
        superlink, starter = self._superlink(port), self._starter(private)
        self._begun = time.monotonic()
        try:
            superlink.start()
            with Control(private, folder.certificates.authority) as control:
                self._wait_for(superlink, control)
                self._roster.forget()
                try:
                    self._check_doors()
                    self._roster.look(control)
                except (httpx.HTTPError, OSError) as error:
                    raise _ProcessDied(f"the SuperLink does not answer ({error})") from None
                self._say(f"serving on {self._where}; {counted(len(self._roster), 'registered site')}")
                starter.start()
                yield superlink, starter, control
        finally:
            end_all([starter, superlink])

    @property
    def _where(self) -> str:
        return joined_address(self._address.host, self._address.port)

    def _start_run(self, control: Control) -> None:
        config = self._hosted.config(self._is_restart)
        self._begun = time.monotonic()
        try:
            self._run = control.start_run(self._folder.app, config)
        except httpx.HTTPError as error:
            raise _ProcessDied(f"the SuperLink does not start the run ({error})") from None
        write_serving(
            self._folder,
            process=os.getpid(),
            since=time.time(),
            address=self._where,
            run=str(self._run),
            **self._hosted.facts,
        )

    def _superlink(self, port: int) -> Child:
        certificates = self._folder.certificates
        return Child(
            "superlink",
            [
                "fedcmp.deployment.superlink",
                self._address.host,
                str(self._address.port),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--ssl-ca-certfile", str(certificates.authority)),
                *("--ssl-certfile", str(certificates.server), "--ssl-keyfile", str(certificates.server_key)),
                "--enable-supernode-auth",
                "--disable-runtime-dependency-installation",
                *("--isolation", "process", "--superexec-auth-secret-file", str(self._folder.secret)),
            ],
            log=self._folder.logs / "superlink.log",
            environment=self._folder.environment(),
            folder=self._folder.home,
        )

    def _starter(self, private: str) -> Child:
        terse = Terse()

        def heard(line: str) -> None:
            if ended := apps.ENDED.fullmatch(line):
                self._events.put((int(ended[1]), int(ended[2])))
            elif not apps.BEGUN.fullmatch(line) and not line.startswith(apps.UNANSWERED) and (shown := terse(line)):
                self._say(shown)

        return Child(
            "apps",
            [
                "fedcmp.deployment.apps",
                *("--kind", "server", "--runtime", private, "--secret", str(self._folder.secret)),
                *("--certificate", str(self._folder.certificates.authority)),
            ],
            log=self._folder.logs / "apps.log",
            heard=heard,
            environment=self._folder.environment(),
            folder=self._folder.home,
        )

    def _wait_for(self, superlink: Child, control: Control) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not control.answers():
            if superlink.ended() is not None or time.monotonic() > deadline:
                raise _ProcessDied(f"the SuperLink did not start ({_last(superlink)})")
            time.sleep(_TICK_SECONDS)

    def _check_doors(self) -> None:
        """Make sure that nobody can register keys or start runs from outside."""
        context = ssl.create_default_context(cafile=self._folder.certificates.authority)
        context.check_hostname = False  # it is this machine, under an address that sites may not use
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._address.host, self._address.host)
        for path in ("/v1/control/list-nodes", "/v1/runtime/acquire-task", "/docs"):
            connection = http.client.HTTPSConnection(host, self._address.port, context=context, timeout=30)
            try:
                connection.request("POST", path, body=b"", headers={"content-type": "application/x-protobuf"})
                status = connection.getresponse().status
            finally:
                connection.close()
            if status != http.HTTPStatus.FORBIDDEN:
                raise WorkerDied(
                    f"the SuperLink answers {path} on its public port ({status}), which it must not: stopped"
                )

    def _watch(self, superlink: Child, starter: Child, control: Control) -> None:
        """Watch over a run until it is over.

        Raises:
            _RunDied: the ServerApp was killed.
            _ProcessDied: one of the processes died.
            UserError: the ServerApp said what is wrong, or the run was stopped.
            WorkerDied: the ServerApp failed by a mistake of its own.
        """
        while True:
            for child, what in ((superlink, "the SuperLink"), (starter, "the process that starts apps")):
                if (code := child.ended()) is not None:
                    raise _ProcessDied(f"{what} died (exit code {code})")
            with suppress(Empty):
                run, exit_code = self._events.get(timeout=_TICK_SECONDS)
                if run == self._run and self._is_over(control, starter, exit_code):
                    return
            self._roster.look_again(control)

    def _is_over(self, control: Control, starter: Child, code: int) -> bool:
        """Return whether the run is over, now that its ServerApp has ended with an exit code."""
        try:
            state = control.run_state(self._run)
        except httpx.HTTPError as error:
            raise _ProcessDied(f"the SuperLink does not answer ({error})") from None
        if state.completed:
            return True
        if state.stopped:
            raise UserError(f"the run was stopped by another command{self._hosted.after}")
        if state.finished and state.details.startswith(_RAISED):
            said = state.details.removeprefix(_RAISED)
            if any("fedcmp.errors." in line for line in starter.last_lines):  # the class, at the end of a traceback
                raise UserError(said)
            raise WorkerDied(f"the server app failed: {said}; see {self._folder.logs / 'apps.log'}")
        raise _RunDied(f"the server app died (exit code {code})")


def _last(child: Child) -> str:
    lines = [plain(line).strip() for line in child.last_lines]
    return lines[-1] if lines else "without a word"
