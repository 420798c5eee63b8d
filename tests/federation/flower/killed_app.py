"""A ServerApp's process for test_resume.py: python -m tests.federation.flower.killed_app RULE CHECKPOINT RESULT [WAIT]

WAIT, "GROUP:NODE", is where the process says that it is there (by a file RESULT.there) and waits to be killed.
"""

import sys
import time
from pathlib import Path

import torch
from flwr.app import Message, MetricRecord
from safetensors.torch import save_file

from fedcmp.aggregation import create
from fedcmp.federation.flower import AggregatorStrategy, tensors_of
from tests.federation.flower.apps import client_app, initial, make_grid

ROUNDS = 4


def main(rule: str, checkpoint: str, result: str, wait: str = "") -> None:
    torch.set_num_threads(1)

    def fault(node: int, message: Message) -> None:
        if wait == f"{message.metadata.group_id}:{node}":
            Path(f"{result}.there").touch()
            time.sleep(600)

    strategy = AggregatorStrategy(create(rule), checkpoint=checkpoint)
    grid = make_grid(client_app(norm=True), fault=fault)
    done = strategy.start(
        grid, initial(norm=True), num_rounds=ROUNDS, evaluate_fn=lambda number, _: MetricRecord({"round": number})
    )
    metrics = {
        "train": repr(done.train_metrics_clientapp),
        "evaluate": repr(done.evaluate_metrics_clientapp),
        "server": repr(done.evaluate_metrics_serverapp),
    }
    save_file(tensors_of(done.arrays), result, metadata=metrics)


if __name__ == "__main__":
    main(*sys.argv[1:])
