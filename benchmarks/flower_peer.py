"""The peer of simulation.py: the same federated training as a Flower app, run by Flower's own engine on Ray.

As a careful user would write it: a ClientApp that trains one client for each message, Flower's FedAvg on the server.
The frozen LLM and the pairs are loaded once in each actor and kept between messages. A module of its own, because Ray's
actors import the app by its name: what a script's main module keeps is lost between messages.
`flwr run` starts the same engine in a process of its own; `run_simulation`, which calls it from a script, is deprecated
and does the same.
"""

import functools
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # else a warning about accelerators
os.environ |= {"RAY_worker_niceness": "0"}  # Ray's own is 15: anything else that runs would slow its actors only

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result
from flwr.simulation import run_simulation
from peer_work import train_one, work_of
from torch import Tensor

from fedcmp.config import Recipe, read_dumped
from fedcmp.simulation.engine import Engine

client_app = ClientApp()


@functools.lru_cache(maxsize=1)
def loaded(recipe_file: str, prepared: str) -> Engine:
    """An actor's model and pairs."""
    torch.set_num_threads(1)
    return Engine(read_dumped(Path(recipe_file)), Path(prepared))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    engine = loaded(config["recipe"], config["prepared"])
    part, settings = work_of(engine, int(context.node_config["partition-id"]), int(config["server-round"]) - 1)
    start = message.content["arrays"].to_torch_state_dict()
    update = train_one(engine, part, settings, start).update
    metrics = {"num-examples": update.num_examples, "alignment-error": update.alignment_error}
    content = RecordDict({"arrays": ArrayRecord(update.state), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


class OfAll(FedAvg):
    """FedAvg that stops when a client failed, instead of going on with the others."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        kept = list(replies)
        for reply in kept:
            if reply.has_error():
                raise RuntimeError(f"a client failed in Flower's simulation: {reply.error.reason}")
        return super().aggregate_train(server_round, kept)


def run(
    recipe: Recipe, recipe_file: Path, prepared: Path, initial: dict[str, Tensor], *, actors: int
) -> tuple[list[float], dict[str, Tensor]]:
    """All rounds of a recipe.

    Returns:
        When each round ended, in seconds of time.perf_counter, and the last global projector.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    clients, ends, results = recipe.scenario.clients, list[float](), list[Result]()
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, _context: Context) -> None:
        strategy = OfAll(
            fraction_evaluate=0.0,
            min_train_nodes=clients,
            min_available_nodes=clients,
        )
        result = strategy.start(
            grid,
            ArrayRecord(initial),
            num_rounds=recipe.federation.rounds,
            train_config=ConfigRecord({"recipe": str(recipe_file), "prepared": str(prepared)}),
            evaluate_fn=lambda number, _arrays: ends.append(time.perf_counter()) if number else None,
        )
        results.append(result)

    resources = {"init_args": {"num_cpus": actors}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    resources["init_args"] |= {"log_to_driver": False, "logging_level": "ERROR"}
    run_simulation(server_app, client_app, num_supernodes=clients, backend_config=resources)
    return ends, dict(results[0].arrays.to_torch_state_dict())
