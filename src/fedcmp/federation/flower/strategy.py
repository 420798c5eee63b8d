"""Any server rule of ours as a strategy of Flower's Message API, for your own ServerApp.

    strategy = AggregatorStrategy(create("shared-basis"), min_available_nodes=3, checkpoint="run.safetensors")
    result = strategy.start(grid, array_record(model.state_dict()), num_rounds=10)

What travels is written down in records.py. Replies are sorted before they are folded in, refused one by one, and every
round is kept on disk before the next begins.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from fedcmp.aggregation import Aggregator
from fedcmp.errors import UserError, counted
from fedcmp.federation.flower.arrays import array_record
from fedcmp.federation.flower.local_training import local_of
from fedcmp.federation.flower.merging import RUNNING_STATISTICS, Merge
from fedcmp.federation.flower.open_round import OpenRound, sorted_replies
from fedcmp.federation.flower.records import (
    ARRAYS,
    ASKED,
    CONFIG,
    KEPT,
    NUM_EXAMPLES,
    ROUND,
    Asked,
    broadcast_records,
    read_arrays,
)
from fedcmp.federation.flower.replies import Answer, mean_metrics
from fedcmp.federation.flower.sampling import connected_nodes, sampled_nodes
from fedcmp.federation.flower.saved import CheckpointFile, Saved

_LOG = logging.getLogger("flwr")
_OPENING = "opening"  # group of an opening round's messages
MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]
Tensors = dict[str, Tensor]


class AggregatorStrategy(Strategy):
    """A server rule as a strategy.

    Args:
        aggregator: the rule, `fedcmp.aggregation.create(name, **options)`.
        objective: the clients' local objective; None: the one that the rule needs, else "plain".
        objective_options: its options.
        step: how the clients step; None: as the method of the rule's name does, else by AdamW.
        step_options: its options.
        fraction_train: share of the connected nodes that train in a round, 0 < share <= 1; drawn by `seed` and round.
        fraction_evaluate: likewise for evaluation; 0: the clients do not evaluate.
        min_available_nodes: nodes that must be connected before a round begins.
        wait_seconds: how long they are waited for.
        min_clients: replies that the rule must accept for a round to count.
        on_bad_update: "drop": go on without a client whose reply is refused; "stop": end the run.
        checkpoint: file that holds the run; a restarted ServerApp continues from it, bit for bit. None: nowhere.
        seed: of the draw of the nodes.
        order_by: metric of the replies that says in which order clients are added up; None: the nodes' numbers do,
            which Flower's simulation draws anew for every run.
        averaged: patterns of names of tensors that are averaged whatever the rule.
        train_metrics_aggr_fn: makes the metrics of a round of the accepted replies' contents and "num-examples"; None:
            the mean of each, weighted by examples.
        evaluate_metrics_aggr_fn: likewise for evaluation.

    Raises:
        UserError: an argument out of range; an objective that does not work with the rule.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        *,
        objective: str | None = None,
        objective_options: Mapping[str, Any] | None = None,
        step: str | None = None,
        step_options: Mapping[str, Any] | None = None,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_available_nodes: int = 2,
        wait_seconds: float = 600.0,
        min_clients: int = 1,
        on_bad_update: Literal["drop", "stop"] = "drop",
        checkpoint: str | Path | None = None,
        seed: int = 0,
        order_by: str | None = None,
        averaged: Sequence[str] = RUNNING_STATISTICS,
        train_metrics_aggr_fn: MetricsFunction | None = None,
        evaluate_metrics_aggr_fn: MetricsFunction | None = None,
    ) -> None:
        _require("fraction_train", fraction_train, 0 < fraction_train <= 1, "above 0 and at most 1")
        _require("fraction_evaluate", fraction_evaluate, 0 <= fraction_evaluate <= 1, "from 0 to 1")
        _require("min_available_nodes", min_available_nodes, min_available_nodes >= 1, "at least 1")
        _require("wait_seconds", wait_seconds, wait_seconds >= 0, "at least 0")
        _require("min_clients", min_clients, min_clients >= 1, "at least 1")
        _require("on_bad_update", on_bad_update, on_bad_update in ("drop", "stop"), '"drop" or "stop"')
        self._rule = type(aggregator).__name__
        self.aggregator, self._local = local_of(
            aggregator, objective, objective_options or {}, step, step_options or {}
        )
        self._fraction_train, self._fraction_evaluate, self._seed = fraction_train, fraction_evaluate, seed
        self._min_available_nodes, self._wait_seconds = min_available_nodes, wait_seconds
        self._min_clients, self._stop_at_refusal = min_clients, on_bad_update == "stop"
        self._order_by, self._averaged = order_by, tuple(averaged)
        self._train_metrics, self._evaluate_metrics = train_metrics_aggr_fn, evaluate_metrics_aggr_fn
        self._file = CheckpointFile(None if checkpoint is None else Path(checkpoint), self._rule)
        self._timeout: float | None = None
        self._kept: dict[int, int] = {}  # node -> the last round in which it was accepted and kept a state
        self._history = Result()
        self._open: OpenRound | None = None
        self._evaluating: list[Message] = []

    def summary(self) -> None:
        """Log what the strategy does."""
        rule = self._rule
        _LOG.info("\t├──> Rule: %s, local objective: %s, step: %s", rule, self._local.objective, self._local.step)
        _LOG.info("\t├──> Nodes: at least %d, of which %g train", self._min_available_nodes, self._fraction_train)
        _LOG.info("\t└──> Checkpoint: %s", self._file.path or "none")

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run all rounds, or those that are left where there is a checkpoint.

        Args:
            grid: Flower's.
            initial_arrays: the tensors that a new run begins with; of a resumed one, their names and shapes count.
            num_rounds: of the whole run.
            timeout: seconds after which a round is closed without the nodes that have not replied. Their messages
                expire with it, so a slow node is free for the next round.
            train_config: sent to the clients as "config", with the round.
            evaluate_config: likewise for evaluation.
            evaluate_fn: evaluates on the server: round (0: before the first), arrays -> metrics.

        Returns:
            The last arrays, and the metrics of all rounds, those before a restart included.

        Raises:
            UserError: too few nodes or accepted replies, a refused reply with on_bad_update = "stop", a checkpoint of
                another rule or model. The round is not closed: start again to resume it.
        """
        self.summary()
        begun = time.monotonic()
        self._timeout = timeout
        arrays, done = self._begun(initial_arrays)
        result = self._history

        def evaluate(number: int) -> None:
            if number > 0:
                messages = self.configure_evaluate(number, arrays, evaluate_config or ConfigRecord(), grid)
                replies = grid.send_and_receive(messages, timeout=timeout) if messages else []
                means = self.aggregate_evaluate(number, replies)
                if means is not None:
                    result.evaluate_metrics_clientapp[number] = means
            measured = evaluate_fn(number, arrays) if evaluate_fn else None
            if measured is not None:
                result.evaluate_metrics_serverapp[number] = measured

        evaluate(done)  # of a resumed run again: it may have been killed before
        for number in range(done + 1, num_rounds + 1):
            _LOG.info("[ROUND %d/%d]", number, num_rounds)
            messages = self.configure_train(number, arrays, train_config or ConfigRecord(), grid)
            merged, metrics = self.aggregate_train(number, grid.send_and_receive(messages, timeout=timeout))
            if merged is not None:
                arrays = merged
            _LOG.info("\tmetrics: %s", metrics)
            evaluate(number)
        result.arrays = arrays
        _LOG.info("%s finished in %.1f s", counted(num_rounds, "round"), time.monotonic() - begun)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Begin a round, an opening one before it where the rule wants it; return its messages.

        Raises:
            UserError: too few nodes; of the opening round, as `aggregate_train`.
        """
        state = read_arrays(arrays)
        nodes = sampled_nodes(self._nodes(grid), self._fraction_train, server_round, self._seed)
        if self.aggregator.opening and self.aggregator.round == 0:
            _LOG.info("opening round: %s measure", counted(len(nodes), "node"))
            messages = self._begin(server_round, state, arrays, config, nodes, measure_only=True)
            state, _ = self._close(grid.send_and_receive(messages, timeout=self._timeout))
            arrays = array_record(state)
            self._save(server_round - 1, state)
        return self._begin(server_round, state, arrays, config, nodes, measure_only=False)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge a round's replies; the round is on disk when this returns.

        Raises:
            UserError: too few replies are accepted, one is refused with on_bad_update = "stop", or the rule cannot
                merge them.
        """
        state, accepted = self._close(replies)
        self._kept |= {answer.node: server_round for answer in accepted if answer.metrics.get(KEPT)}
        metrics = self._metrics(accepted, self._train_metrics)
        self._history.train_metrics_clientapp[server_round] = metrics
        self._save(server_round, state)
        return array_record(state), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Return an evaluation's messages; none where fraction_evaluate is 0."""
        self._evaluating = []
        if self._fraction_evaluate > 0:
            content = RecordDict({ARRAYS: arrays, CONFIG: _with_round(config, server_round)})
            nodes = sampled_nodes(self._nodes(grid), self._fraction_evaluate, server_round, self._seed)
            group = f"evaluate-{server_round}"  # a late reply to the training of the round is none to this
            self._evaluating = [self._message(content, node, MessageType.EVALUATE, group) for node in nodes]
        return self._evaluating

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Average an evaluation's metrics; None where no node replied well. A bad reply never ends the run."""
        answers, refused = sorted_replies(replies, self._evaluating, order_by=self._order_by)
        for one in refused:
            _LOG.warning("round %d, evaluation, node %d: %s", server_round, one.node, one.reason)
        return self._metrics(answers, self._evaluate_metrics) if answers else None

    def _nodes(self, grid: Grid) -> list[int]:
        return connected_nodes(grid, self._min_available_nodes, self._wait_seconds)

    def _message(self, content: RecordDict, node: int, kind: str, group: str) -> Message:
        return Message(content, node, kind, ttl=self._timeout, group_id=group)

    def _begun(self, initial: ArrayRecord) -> tuple[ArrayRecord, int]:
        """Return the tensors to continue from, and the rounds finished."""
        self._history = Result(arrays=initial)
        saved = self._file.load(read_arrays(initial))
        if saved is None:
            return initial, 0
        _LOG.info("%s: resuming after round %d", self._file.path, saved.round)
        self.aggregator.load_state_dict(saved.memory)
        self._kept = saved.kept
        for what, rounds in saved.history.items():
            getattr(self._history, what).update(rounds)
        return array_record(saved.state), saved.round

    def _begin(
        self,
        number: int,
        state: Tensors,
        arrays: ArrayRecord,
        config: ConfigRecord,
        nodes: list[int],
        *,
        measure_only: bool,
    ) -> list[Message]:
        try:
            merge = Merge(self.aggregator, state, averaged=self._averaged, measure_only=measure_only)
        except ValueError as error:
            raise UserError(f"round {number}: {error}") from error
        # in float32 at least: in half precision a basis would not stay orthogonal
        wide = {name: t.to(torch.promote_types(t.dtype, torch.float32)) for name, t in merge.state.items()}
        public = broadcast_records(self.aggregator.broadcast(wide))
        sent_along = _with_round(config, number)
        group = _OPENING if measure_only else str(number)
        messages = []
        for node in nodes:
            asked = Asked(
                round=number,
                measure_only=measure_only,
                second_moment="second_moment" in self.aggregator.needs,
                objective=self._local.objective,
                objective_options=self._local.objective_options,
                step=self._local.step,
                step_options=self._local.step_options,
                extras=sorted(self.aggregator.extras),
                continues=self._kept.get(node, 0),
            )
            content = RecordDict({ARRAYS: arrays, **public, CONFIG: sent_along, ASKED: asked.record()})
            messages.append(self._message(content, node, MessageType.TRAIN, group))
        self._open = OpenRound(number, merge, messages)
        return messages

    def _close(self, replies: Iterable[Message]) -> tuple[Tensors, list[Answer]]:
        if self._open is None:
            raise RuntimeError("no round is open: call configure_train() first")
        now, self._open = self._open, None
        now.fold(replies, order_by=self._order_by, stop_at_refusal=self._stop_at_refusal)
        return now.close(self._min_clients), now.accepted

    def _metrics(self, answers: list[Answer], function: MetricsFunction | None) -> MetricRecord:
        if function is not None:
            return function([answer.content for answer in answers], NUM_EXAMPLES)
        return mean_metrics(answers, without=(KEPT, self._order_by or KEPT))

    def _save(self, number: int, state: Tensors) -> None:
        history = {
            "train_metrics_clientapp": self._history.train_metrics_clientapp,
            "evaluate_metrics_clientapp": self._history.evaluate_metrics_clientapp,
            "evaluate_metrics_serverapp": self._history.evaluate_metrics_serverapp,
        }
        self._file.save(Saved(number, state, self.aggregator.state_dict(), history, self._kept))


def _with_round(config: ConfigRecord, number: int) -> ConfigRecord:
    return ConfigRecord({**config, ROUND: number})


def _require(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{name} = {value!r}: must be {allowed}")
