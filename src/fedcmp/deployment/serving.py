"""`fedcmp serve`: the SuperLink and the run on it, kept going until the run is over.

    SuperLink       superlink.py; sites come in by its public door
    apps            apps.py; starts the ServerApp, which does the rounds

Whatever dies is started again, and the run resumes: the SuperLink keeps nothing on disk, since keys are registered anew
from HOME/sites at every start, and the ServerApp continues from its own checkpoint. Sites notice that the SuperLink is
a new one and come back by themselves. A run that stops with an error of its own is not tried again.
"""

import http.client
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import httpx

from fedcmp.config import Recipe
from fedcmp.deployment import apps
from fedcmp.deployment.addresses import free_port, joined_address
from fedcmp.deployment.certificates import check_certificates
from fedcmp.deployment.control import Control
from fedcmp.deployment.flower_lines import Terse, plain
from fedcmp.deployment.invitation import check_deployable, recipe_checksum
from fedcmp.deployment.server_folder import (
    CLIENT_APP,
    SERVER_APP,
    ServerFolder,
    write_app,
    write_flower_settings,
    write_roster,
    write_secret,
    write_serving,
)
from fedcmp.deployment.site_keys import RegisteredSite, registered_sites
from fedcmp.deployment.supervised import Child, Restarts, end_all
from fedcmp.errors import UserError, WorkerDied, counted
from fedcmp.locks import alone_in
from fedcmp.runs.place import check_place

_TICK_SECONDS = 0.2
_LOOK_SECONDS = 2.0  # between two looks at who is connected and which keys are registered
_START_SECONDS = 90.0  # for a SuperLink to answer
_RAISED = "ServerApp failed with exception: "

Say = Callable[[str], None]


@dataclass(frozen=True)
class Address:
    """Where sites reach the server.

    Attributes:
        host: of this machine; 0.0.0.0 for all of its addresses.
        port: the only one that must be open to the sites.
    """

    host: str = "0.0.0.0"
    port: int = 8443


@dataclass(frozen=True)
class Work:
    """What the server is to do.

    Attributes:
        path: the recipe's file, absolute.
        recipe: what is in it.
        resume: continue the run that is there; where there is none, begin it.
        overwrite: remove the run that is there.
        server_app: "module:name" of the ServerApp.
        client_app: that of the ClientApp.
    """

    path: Path
    recipe: Recipe
    resume: bool = False
    overwrite: bool = False
    server_app: str = SERVER_APP
    client_app: str = CLIENT_APP


def serve(folder: ServerFolder, work: Work, address: Address, say: Say) -> Path:
    """Serve until the recipe's run is over.

    Args:
        folder: HOME.
        work: the recipe and what is done with an earlier run of it.
        address: where sites reach the server.
        say: called with each line for the user.

    Returns:
        The run's folder.

    Raises:
        UserError: certificates or keys are missing, the port is taken, a run is there already, or the run stopped with
            an error of its own.
        WorkerDied: a process died again and again.
    """
    place = folder.run_place(work.recipe)
    check_deployable(work.recipe)
    _check_sites(folder, work)
    for remark in check_certificates(folder.certificates):
        say(remark)
    resume = work.resume and place.exists() and any(place.iterdir())  # a service says --resume at its first start too
    check_place(_at_home(folder, work.recipe), resume=resume, overwrite=work.overwrite)
    _check_port(address)
    with alone_in(folder.home, f"{folder.home}: another `fedcmp serve` works there; stop it first"):
        if work.overwrite and place.exists():
            shutil.rmtree(place)
        say(f"recipe: {work.path}, sha256 {recipe_checksum(work.recipe)}")
        try:
            _Server(folder, work, address, say).run()
        finally:
            folder.serving.unlink(missing_ok=True)
    return place


def _at_home(folder: ServerFolder, recipe: Recipe) -> Recipe:
    run = recipe.run.model_copy(update={"folder": folder.home / recipe.run.folder})
    return recipe.model_copy(update={"run": run})


def _check_sites(folder: ServerFolder, work: Work) -> None:
    sites = work.recipe.deployment.sites
    if work.recipe.deployment.edges:
        raise UserError(
            f"{work.path}: deployment.edges: no command of this release runs an edge server as processes of its own; "
            "leave it out: all sites then connect to this server"
        )
    known = {site.name for site in registered_sites(folder.sites)}
    if unknown := [name for name in sites if name not in known]:
        raise UserError(
            f"{work.path}: deployment.sites: no key of {', '.join(unknown)} in {folder.sites}; register it: "
            f"fedcmp keys add {folder.home} {unknown[0]} FILE.pub"
        )


def _check_port(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        raise UserError(
            f"--address {address.host} --port {address.port}: cannot be listened on ({error.strerror or error}); "
            "choose another port, or stop what uses it"
        ) from None


class _ProcessDied(Exception):  # noqa: N818 - says what happened
    """The SuperLink or the process that starts apps died."""


class _RunDied(Exception):  # noqa: N818 - says what happened
    """The ServerApp was killed."""


class _Server:
    """The processes of a server, and what is done when one of them dies."""

    def __init__(self, folder: ServerFolder, work: Work, address: Address, say: Say) -> None:
        self._folder, self._work, self._address, self._say = folder, work, address, say
        self._events: SimpleQueue[tuple[int, int]] = SimpleQueue()  # runs whose ServerApp has ended, its exit code
        self._restarts = Restarts(most=5, quick=60.0)
        self._resume = work.resume
        self._roster: dict[int, RegisteredSite] = {}
        self._left: dict[str, int] = {}  # keys that Flower could not take back, which may come again
        self._online: set[int] = set()
        self._ever: set[int] = set()  # nodes that have been connected
        self._gone: set[int] = set()  # of these, those whose keys were taken back
        self._said: set[str] = set()
        self._looked = self._begun = 0.0
        self._run = 0

    def run(self) -> None:
        """Keep the run going until it is over."""
        write_app(self._folder, self._work.server_app, self._work.client_app)
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
            raise WorkerDied(f"{why}, and that again and again; see {self._folder.logs}. To continue: --resume")
        self._say(f"{why}; starting again, the run resumes")
        self._resume = True
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
                self._forget()
                try:
                    self._check_doors()
                    self._look(control)
                except (httpx.HTTPError, OSError) as error:
                    raise _ProcessDied(f"the SuperLink does not answer ({error})") from None
                self._say(f"serving on {self._where}; {counted(len(self._roster), 'registered site')}")
                starter.start()
                yield superlink, starter, control
        finally:
            end_all([starter, superlink])

    def _forget(self) -> None:
        """Begin with a SuperLink that knows no site."""
        self._roster, self._left = {}, {}
        self._online, self._ever, self._gone = set(), set(), set()

    @property
    def _where(self) -> str:
        return joined_address(self._address.host, self._address.port)

    def _start_run(self, control: Control) -> None:
        folder, work = self._folder, self._work
        begun = (folder.run_place(work.recipe) / "recipe.toml").exists()  # a run that died before has nothing to resume
        config: dict[str, bool | int | float | str] = {
            "recipe": str(work.path),
            "home": str(folder.home),
            "resume": self._resume and begun,
        }
        self._begun = time.monotonic()
        try:
            self._run = control.start_run(folder.app, config)
        except httpx.HTTPError as error:
            raise _ProcessDied(f"the SuperLink does not start the run ({error})") from None
        write_serving(
            folder,
            process=os.getpid(),
            since=time.time(),
            address=self._where,
            run=str(self._run),
            recipe=str(work.path),
            place=str(folder.run_place(work.recipe)),
            sites=list(work.recipe.deployment.sites),
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
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look_again(control)

    def _is_over(self, control: Control, starter: Child, code: int) -> bool:
        """Return whether the run is over, now that its ServerApp has ended with an exit code."""
        try:
            state = control.run_state(self._run)
        except httpx.HTTPError as error:
            raise _ProcessDied(f"the SuperLink does not answer ({error})") from None
        if state.completed:
            return True
        if state.stopped:
            raise UserError("the run was stopped by another command; `fedcmp serve RECIPE --resume` continues it")
        if state.finished and state.details.startswith(_RAISED):
            said = state.details.removeprefix(_RAISED)
            if any("fedcmp.errors." in line for line in starter.last_lines):  # the class, at the end of a traceback
                raise UserError(said)
            raise WorkerDied(f"the server app failed: {said}; see {self._folder.logs / 'apps.log'}")
        raise _RunDied(f"the server app died (exit code {code})")

    def _look_again(self, control: Control) -> None:
        try:
            self._look(control)
        except UserError as error:  # a file among the keys that is none
            self._say_once(str(error))
        except httpx.HTTPError:  # that the SuperLink died is noticed elsewhere
            return

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _look(self, control: Control) -> None:
        """Register keys that are new, take back those that are gone, and say who has come and who has left."""
        self._looked = time.monotonic()
        wanted = {site.key.line: site for site in registered_sites(self._folder.sites)}
        changed = False
        for node, site in list(self._roster.items()):
            if site.key.line not in wanted or wanted[site.key.line].name != site.name:
                del self._roster[node]  # what it sends counts for nobody from here on
                if node not in self._ever:  # Flower 1.41 fails to take such a key back, and then takes it no more
                    self._left[site.key.line] = node
                self._say(f"{site.name}: key {site.key.fingerprint} is registered no more")
                changed = True
        known = {site.key.line for site in self._roster.values()}
        for line, site in wanted.items():
            if line in known:
                continue
            try:
                self._roster[self._left.pop(line, 0) or control.register(site.key.pem, site.name)] = site
                changed = True
            except httpx.HTTPStatusError:
                self._say_once(
                    f"{site.name}: key {site.key.fingerprint} was taken back before, and Flower takes it again only "
                    "after a restart of the server; restart it, or use a new key"
                )
        if changed:
            write_roster(self._folder, {node: site.name for node, site in self._roster.items()})
        online = control.online()
        self._ever |= online
        for node in self._ever - set(self._roster) - self._gone:
            if control.unregister(node):
                self._gone.add(node)
                self._left = {line: kept for line, kept in self._left.items() if kept != node}
        for node in sorted(online - self._online):
            if node in self._roster:
                self._say(f"{self._roster[node].name}: connected")
        for node in sorted(self._online - online):
            if node in self._roster:
                self._say(f"{self._roster[node].name}: connection lost")
        self._online = online


def _last(child: Child) -> str:
    lines = [plain(line).strip() for line in child.last_lines]
    return lines[-1] if lines else "without a word"
