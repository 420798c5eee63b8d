"""A grid within this process: a ServerApp and its ClientApps as they are, without Ray, SuperLink or network.

For trying an app out and for tests; clients share the process, so nothing keeps them apart. It relies on three private
parts of Flower (its `Run`, its `TaskIdentity`, a message's `_message_id`): the range of versions in pyproject.toml and
a test hold them.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_RAISED = 2  # Flower's code of an exception in a ClientApp
_FIRST_NODE = 100
Fault = Callable[[int, Message], str | Error | None]


@dataclass
class LocalGrid(Grid):
    """Carries messages to a ClientApp's calls and back.

    Args:
        client_app: what answers.
        node_configs: one per node, for example {"partition-id": 0, "num-partitions": 3}.
        run_config: the app's.
        fault: called with node and message before the client is: "drop" loses it, an Error is the reply, None lets it
            through.
        arrange: puts the replies of an exchange into another order.
    """

    client_app: ClientApp
    node_configs: Iterable[UserConfig]
    run_config: UserConfig = field(default_factory=dict)
    fault: Fault | None = None
    arrange: Callable[[list[Message]], list[Message]] = list
    run_id: int = 1

    def __post_init__(self) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = self.run_id, 1, 1
        self._run = Run.create_empty(self.run_id)
        self._replies: dict[str, Message] = {}
        self._contexts = {
            _FIRST_NODE + number: Context(
                self.run_id, _FIRST_NODE + number, dict(config), RecordDict(), dict(self.run_config)
            )
            for number, config in enumerate(self.node_configs)
        }

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes' numbers."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let the clients answer, one after the other; return the messages' identifiers."""
        pushed = list(messages)
        for message in pushed:
            _identify(message)
        for message in pushed:
            reply = self._answer(message)
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
        return [message.metadata.message_id for message in pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there, each once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Return the clients' replies."""
        del timeout
        return self.arrange(self.pull_messages(self.push_messages(messages)))

    def _answer(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        sent, message.content = message.content, _own(message.content)
        try:
            fault = self.fault(node, message) if self.fault else None
            if isinstance(fault, str):  # an Error cannot be compared with a string
                return None
            if isinstance(fault, Error):
                reply = Message(fault, reply_to=message)
            else:
                reply = self.client_app(message, self._contexts[node])
        except Exception as error:  # as Flower's own engines answer for a client that raises
            reply = Message(Error(_RAISED, f"{type(error).__name__}: {error}"), reply_to=message)
        finally:
            message.content = sent
        _identify(reply)
        return reply


def run_locally(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    run_config: Mapping[str, bool | float | int | str] | None = None,
    *,
    fault: Fault | None = None,
) -> LocalGrid:
    """Run a ServerApp with some nodes in this process.

    Args:
        server_app: called once.
        client_app: called once per message.
        nodes: how many; their node configs are "partition-id" and "num-partitions".
        run_config: the app's, as `[tool.flwr.app.config]` of its pyproject.toml has it.
        fault: see LocalGrid.

    Returns:
        The grid that was used.
    """
    configs: list[UserConfig] = [{"partition-id": number, "num-partitions": nodes} for number in range(nodes)]
    config = dict(run_config or {})
    grid = LocalGrid(client_app, configs, config, fault=fault)
    server_app(grid, Context(grid.run_id, 1, {}, RecordDict(), dict(config)))
    return grid


def _identify(message: Message) -> None:
    message.metadata.__dict__["_message_id"] = uuid.uuid4().hex


def _own(content: RecordDict) -> RecordDict:
    """Return records of a client's own; the bytes of the arrays, which nobody changes, are shared."""
    own = RecordDict()
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            own[name] = ArrayRecord(dict(record))
        elif isinstance(record, MetricRecord):
            own[name] = MetricRecord(dict(record))
        else:
            own[name] = ConfigRecord(dict(record))
    return own
