"""What the server's supervisor asks of its SuperLink: register keys, start a run, say how a run is doing.

It is what `flwr supernode register`, `flwr run` and `flwr ls` do, without a new Python process for each.
"""

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import Status, SubStatus
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class RunState:
    """How a run is doing.

    Attributes:
        finished: whether it has ended.
        completed: whether it has ended well.
        stopped: whether somebody stopped it.
        details: what went wrong, in Flower's words.
    """

    finished: bool
    completed: bool
    stopped: bool
    details: str


class Control:
    """The private door of a SuperLink; use as a context manager.

    Args:
        address: "host:port" on the loopback.
        authority: certificate of the federation's authority.
    """

    def __init__(self, address: str, authority: Path) -> None:
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedcmp")],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def answers(self) -> bool:
        """Return whether the SuperLink is there."""
        try:
            self._client.ListNodes(ListNodesRequest())
        except httpx.HTTPError:
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until the SuperLink is there, at most so long; return whether it is."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                return False
            time.sleep(_WAIT_SECONDS)
        return True

    def register(self, pem: bytes, name: str) -> int:
        """Register a site's public key; return the number of its node, which is new at every registration.

        Raises:
            httpx.HTTPError: it is registered already, or the SuperLink is gone.
        """
        return int(self._client.RegisterNode(RegisterNodeRequest(public_key=pem, name=name)).node_id)

    def unregister(self, node: int) -> bool:
        """Take a node's key back; return whether that was possible.

        Flower 1.41 cannot take back the key of a node that has never been connected.
        """
        try:
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))
        except httpx.HTTPError:
            return False
        return True

    def online(self) -> set[int]:
        """Return the nodes that are connected now."""
        return {
            int(node.node_id)
            for node in self._client.ListNodes(ListNodesRequest()).nodes_info
            if node.status == "online"
        }

    def start_run(self, app: Path, config: Mapping[str, bool | int | float | str]) -> int:
        """Start a run of the app in a folder; return its number.

        Args:
            app: a folder with a pyproject.toml.
            config: the run's own settings; their names must be declared in the app.

        Raises:
            httpx.HTTPError: the SuperLink is gone, or refuses.
        """
        content = build_fab_from_disk(app)
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)))
        answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise RuntimeError("the SuperLink did not start the run")
        return int(answer.run_id)

    def run_state(self, run: int) -> RunState:
        """Return how a run is doing.

        Raises:
            httpx.HTTPError: the SuperLink is gone.
        """
        status = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        finished = status.status == Status.FINISHED
        return RunState(
            finished=finished,
            completed=finished and status.sub_status == SubStatus.COMPLETED,
            stopped=finished and status.sub_status == SubStatus.STOPPED,
            details=str(status.details),
        )

    def stop_run(self, run: int) -> None:
        """Stop a run, if it is not over."""
        with suppress(httpx.HTTPError):
            self._client.StopRun(StopRunRequest(run_id=run))
