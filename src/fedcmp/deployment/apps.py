"""Starts the apps that a SuperLink or a SuperNode has tasks for, in place of Flower's SuperExec; a child process.

Flower's SuperExec starts whatever kind of app a task asks for, and a ClientApp runs the code that the server sent with
the run. A site runs none of it: here a task of a site only ever calls the ClientApp that is named on this process's own
command line, which is fedcmp's and installed at the site, and tasks of any other kind are left alone. What the server
sends is data for that app. The server's own ServerApp is run as Flower runs it.

An app is forked from this process, which has loaded Flower already: a message costs a fork instead of two seconds.

    python -m fedcmp.deployment.launch PARENT fedcmp.deployment.apps --kind client --runtime HOST:PORT --secret FILE
        --app fedcmp.federation.flower.client_app:app
"""

import argparse
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import httpx

from fedcmp.workers.parent import end_with_parent

POLL_SECONDS = 0.25
_GRACE_SECONDS = 6.0  # Flower's apps end within five
ENDED = re.compile(r"app of run (\d+) ended with exit code (-?\d+)")  # a line of this process's, for its supervisor
UNANSWERED = "no answer"
BEGUN = re.compile(r"app of run (\d+) is process (\d+)")


def main() -> None:
    """Start apps until the supervisor ends this process."""
    parser = argparse.ArgumentParser(prog="fedcmp.deployment.apps")
    parser.add_argument("--kind", choices=["server", "client"], required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--app", default="")
    given = parser.parse_args()
    run = _server_app(given) if given.kind == "server" else _client_app(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _serve(given, run)


def _serve(given: argparse.Namespace, run: Callable[[str], None]) -> NoReturn:
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    client = RuntimeHttpClient.from_server_address(
        server_address=given.runtime,
        insecure=given.certificate is None,
        root_certificates=None if given.certificate is None else str(given.certificate),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="fedcmp"),
            SuperExecAuthHttpInterceptor(
                master_secret=given.secret.read_bytes(),
                protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"}),
            ),
        ],
    )
    kind = TaskType.SERVER_APP if given.kind == "server" else TaskType.CLIENT_APP
    apps: dict[int, int] = {}
    try:
        _start_all(client, AcquireTaskRequest(supported_task_types=[kind]), run, apps)
    finally:  # SIGTERM went to them too
        _wait_for(apps)


def _start_all(client: Any, request: Any, run: Callable[[str], None], apps: dict[int, int]) -> NoReturn:
    while True:
        try:
            found = client.AcquireTask(request)
        except httpx.HTTPError as error:  # the supervisor notices a SuperLink or SuperNode that has died
            print(f"{UNANSWERED}: {error}", flush=True)
            time.sleep(1)
            continue
        if found.HasField("task") and found.token:
            app = _fork(run, found.token)
            apps[app] = int(found.task.run_id)
            print(f"app of run {apps[app]} is process {app}", flush=True)
        _report_ended(apps)
        time.sleep(POLL_SECONDS)


def _fork(run: Callable[[str], None], token: str) -> int:
    sys.stdout.flush()
    own = os.getpid()
    app = os.fork()
    if app == 0:
        code = 1
        try:
            end_with_parent(own)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            run(token)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return app


def _report_ended(apps: dict[int, int]) -> None:
    for app in list(apps):
        done, status = os.waitpid(app, os.WNOHANG)
        if done:
            print(f"app of run {apps.pop(app)} ended with exit code {os.waitstatus_to_exitcode(status)}", flush=True)


def _wait_for(apps: dict[int, int]) -> None:
    """Give apps that were told to end a moment to do so; the system ends them with this process."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while apps and time.monotonic() < deadline:
        _report_ended(apps)
        time.sleep(0.05)


def _server_app(given: argparse.Namespace) -> Callable[[str], None]:
    from queue import Queue

    from flwr.supercore.logger import mirror_output_to_queue
    from flwr.superlink.runtime import run_serverapp

    certificate = given.certificate.read_bytes()

    def run(token: str) -> None:
        lines: Queue[str | None] = Queue()
        mirror_output_to_queue(lines)  # for `flwr log`
        run_serverapp(
            runtime_api_address=given.runtime,
            log_queue=lines,
            token=token,
            insecure=False,
            certificates=certificate,
        )

    return run


def _client_app(given: argparse.Namespace) -> Callable[[str], None]:
    flower = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    module, _, name = given.app.partition(":")
    use_only(getattr(importlib.import_module(module), name), flower)

    def run(token: str) -> None:
        flower.run_clientapp(runtime_api_address=given.runtime, token=token, insecure=True)

    return run


def use_only(app: Any, flower: Any) -> None:
    """Let Flower's runner of ClientApps call one app, whatever the server sent.

    Args:
        app: a ClientApp.
        flower: the module flwr.supernode.runtime.run_clientapp.

    Raises:
        AttributeError: this version of Flower loads apps in another way: nothing may be run with it.
    """
    for name in ("install_from_fab", "get_project_dir", "get_load_client_app_fn"):
        getattr(flower, name)
    flower.install_from_fab = lambda *_args, **_options: None
    flower.get_project_dir = lambda *_args, **_options: Path()
    flower.get_load_client_app_fn = lambda **_options: lambda *_args: app


if __name__ == "__main__":
    main()
