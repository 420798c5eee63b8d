"""The first sentence: which method wins and how sure that is, or why none does."""

import math
from pathlib import Path

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.verdict import listed, verdict
from fedcmp.runs.held_out import HeldOut
from fedcmp.runs.reading import Run
from fedcmp.runs.records import Evaluation

from .fakes import write_run

CAPTIONS = 300


def runs_of(method, *losses, finished=True, captions=CAPTIONS, blind=None, shuffled=None, spread=0.5):
    """One run a seed, each with one evaluation and, where captions are counted, every caption's loss."""
    found = []
    for seed, loss in enumerate(losses):
        line = {"model": "global", "round": 3, "split": "test", "caption_loss": loss, "captions": captions}
        line |= {} if shuffled is None else {"shuffled_loss": shuffled}
        lines = [line] if blind is None else [line, {**line, "model": "blind", "round": 0, "caption_loss": blind}]
        own = [10 * loss + spread * ((k * 7 + len(method)) % 5 - 2) for k in range(captions or 0)]
        held = HeldOut(3, "test", (10,) * len(own), {"global": tuple(own)}) if own and math.isfinite(loss) else None
        evaluations = tuple(map(Evaluation.from_line, lines))
        found.append(
            Run(
                Path(method),
                method,
                method,
                seed=seed,
                evaluations=evaluations,
                held_out=held,
                finished=finished,
                recipe={"data": {"format": "llava"}},
            )
        )
    return found


def told(*groups):
    return "".join(phrase.text for phrase in verdict(Comparison.of([run for group in groups for run in group])))


def test_the_demo_names_the_winner_its_interval_and_the_distance_closed(demo_comparison):
    said = "".join(phrase.text for phrase in verdict(demo_comparison))
    best, fedavg = (demo_comparison.loss(demo_comparison.named(name)) for name in ("shared-basis", "fedavg"))
    share = demo_comparison.closed_from_fedavg(demo_comparison.named("shared-basis"))
    gap = demo_comparison.decision.gaps["fedavg"]
    assert said.startswith(f"shared-basis wins: caption loss {best:.3f} nats per token (lower is better)")
    assert f"{fedavg - best:.3f} (95 % interval {gap.low:.3f} to {gap.high:.3f}; paired bootstrap over 240" in said
    assert f"below fedavg ({fedavg:.3f})" in said
    assert f"closes {100 * share:.0f} % of fedavg's distance to pooled data" in said


def test_seeds_give_a_t_interval():
    said = told(runs_of("a", 0.70, 0.74, 0.72), runs_of("fedavg", 0.75, 0.78, 0.79))
    assert "0.053 (95 % interval 0.015 to 0.091; t interval over 3 seeds) below fedavg (0.773)." in said


def test_methods_within_the_interval_are_not_distinguishable():
    said = told(runs_of("a", 0.700), runs_of("bb", 0.7005), runs_of("fedavg", 0.80))
    assert said.startswith(
        "a and bb are not distinguishable: caption loss 0.700 and 0.701 nats per token; a is 0.001 (95 %"
    )
    assert "; a is 0.100 (95 % interval" in said
    assert "below fedavg (0.800)" in said


def test_the_second_is_named_when_it_is_not_fedavg():
    said = told(runs_of("a", 0.70), runs_of("bb", 0.75), runs_of("fedavg", 0.80))
    assert "below fedavg (0.800). Next comes bb, 0.050 (95 % interval" in said


def test_fedavg_may_win():
    assert told(runs_of("fedavg", 0.7), runs_of("b", 0.8)).startswith("fedavg wins: caption loss 0.700 nats per token")


def test_one_federated_method_is_not_called_winner():
    assert told(runs_of("fedavg", 0.7)) == "fedavg reaches a caption loss of 0.700 nats per token."


@pytest.mark.parametrize("captions", [7, 45])
def test_few_held_out_pairs_name_no_winner(captions):
    said = told(runs_of("a", 0.2, captions=captions), runs_of("b", 0.9, captions=captions))
    assert said == (
        f"Too few held-out pairs to name a winner: {captions}, and at least 100 are needed. Caption losses so far, "
        "which prove nothing: a 0.200, b 0.900."
    )


@pytest.mark.parametrize(("loss", "side"), [(0.915, "within the noise of"), (1.2, "above")])
def test_near_the_blind_llm_nothing_is_learned_yet(loss, side):
    said = told(runs_of("a", loss, blind=0.92), runs_of("b", 2.0, blind=0.92))
    assert said.startswith(
        f"Nothing learned yet: a's caption loss, {loss:.3f} nats per token, is {side} that of the same"
    )


def test_one_seed_without_losses_per_caption_names_no_winner():
    said = told(runs_of("a", 0.5, captions=None), runs_of("b", 0.9, captions=None))
    assert said.startswith(
        "a has the lowest caption loss: 0.500 nats per token, but nothing tells how much of its lead"
    )
    assert "Run two or more seeds." in said


def test_an_unfinished_run_speaks_of_so_far():
    assert told(runs_of("fedavg", 0.7, finished=False)).startswith("So far (round 3): fedavg reaches")


def test_without_a_federated_run_the_others_speak():
    said = told(runs_of("centralized", 0.6), runs_of("local", 1.0))
    assert "centralized reaches a caption loss of 0.600" in said
    assert "local reaches" in said


def test_before_the_first_evaluation_nothing_is_claimed(tmp_path):
    folder = write_run(
        tmp_path / "fedavg", "fedavg", samples=False, change=lambda line: line if line["kind"] == "data" else None
    )
    said = "".join(phrase.text for phrase in verdict(Comparison.of(load_runs(folder))))
    assert said.startswith("Nothing has been evaluated yet.")


def test_a_diverged_rival_is_left_out():
    assert told(runs_of("a", 0.7), runs_of("b", math.nan)) == "a reaches a caption loss of 0.700 nats per token."
    assert CAPTION_LOSS.write(math.nan) == "diverged"


def test_names_become_one_phrase():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_ahead_of_pooled_data_no_share_of_a_distance_is_told():
    """It would be above 100 %, which says nothing that a reader can use."""
    said = told(runs_of("a", 0.60, blind=0.90), runs_of("fedavg", 0.82), runs_of("centralized", 0.85))
    assert said.endswith("below fedavg (0.820). a is also 0.250 below pooled data (0.850).")


@pytest.mark.parametrize(
    ("shuffled", "said"),
    [
        (None, "a closes 67 % of the blind LLM's distance to pooled data."),
        (1.20, "a closes 67 % of the blind LLM's distance to pooled data."),
        (0.80, "a closes 50 % of the distance from its own loss on shuffled images to pooled data."),
    ],
)
def test_the_distance_is_counted_from_the_better_way_of_not_seeing(shuffled, said):
    mine = runs_of("a", 0.70, blind=0.90, shuffled=shuffled)
    assert told(mine, runs_of("b", 0.85, blind=0.90), runs_of("centralized", 0.60)).endswith(said)
