"""The peers' own code, called the way they call it: peft's merging functions and Flower's strategies."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace


def peft_merging() -> ModuleType:
    """peft.utils.merge_utils, read as a file of its own: importing all of peft takes seconds."""
    name = "peft_merge_utils"
    if name not in sys.modules:
        file = Path(importlib.util.find_spec("peft").origin).parent / "utils" / "merge_utils.py"
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def flower_round(strategy, number, start, states, counts):
    """One round of a Flower strategy, in process: configure_train, then aggregate_train on the clients' replies.

    Args:
        strategy: an instance from flwr.serverapp.strategy.
        number: the round, from 1.
        start: name -> array, the global state.
        states: one such dict per client.
        counts: the clients' sample counts.

    Returns:
        Name -> array, the next global state.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

    def record(state):
        return ArrayRecord({name: Array(array) for name, array in state.items()})

    strategy._construct_messages = lambda *_: []  # messages need a running server
    grid = SimpleNamespace(get_node_ids=lambda: list(range(len(states))))
    strategy.configure_train(number, record(start), ConfigRecord(), grid)
    contents = [
        RecordDict({"arrays": record(state), "metrics": MetricRecord({"num-examples": count})})
        for state, count in zip(states, counts, strict=True)
    ]
    replies = [SimpleNamespace(content=content, has_error=lambda: False) for content in contents]
    merged, _ = strategy.aggregate_train(number, replies)
    return {name: array.numpy() for name, array in merged.items()}
