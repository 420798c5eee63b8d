"""Which method wins, and when none does: few pairs, nothing learned, a difference within its interval, no interval."""

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import FEWEST, Comparison
from fedcmp.report.summary import comparison_table

from .fakes import write_run


def comparison(folder, **losses):
    """Methods with the given final losses; two underscores before an option of write_run."""
    options = {key.removeprefix("__"): value for key, value in losses.items() if key.startswith("__")}
    for method, loss in losses.items():
        if method.startswith("__"):
            continue

        def change(line, loss=loss):
            return {**line, "caption_loss": loss} if line.get("model") == "global" else line

        write_run(folder / method, method.replace("_", "-"), rounds=1, samples=False, change=change, **options)
    return Comparison.of(load_runs(folder))


def test_a_clear_lead_wins(tmp_path):
    found = comparison(tmp_path, a=0.70, b=0.75)
    assert (found.decision.kind, found.winner.label) == ("winner", "a")
    assert found.decision.gaps["b"].over == "captions"


@pytest.mark.parametrize("pairs", [1, 7, 45, FEWEST - 1])
def test_few_held_out_pairs_decide_nothing(tmp_path, pairs):
    found = comparison(tmp_path, a=0.30, b=0.75, __pairs=pairs)
    assert (found.decision.kind, found.decision.pairs, found.winner) == ("too few", pairs, None)
    assert not any(row.best or any(cell.bold for cell in row.cells) for row in comparison_table(found).rows)


def test_few_pairs_decide_nothing_however_many_seeds_there_are(tmp_path):
    for seed in range(3):
        for method in ("fedavg", "shared-basis"):
            write_run(tmp_path / f"{method}-{seed}", method, seed=seed, rounds=1, samples=False, pairs=45)
    assert Comparison.of(load_runs(tmp_path)).decision.kind == "too few"


@pytest.mark.parametrize(("loss", "kind"), [(0.921, "nothing learned"), (1.4, "nothing learned"), (0.85, "winner")])
def test_a_loss_near_the_blind_one_is_nothing_learned(tmp_path, loss, kind):
    found = comparison(tmp_path, a=loss, b=loss + 0.1)
    assert found.decision.kind == kind
    assert (found.winner is None) == (kind != "winner")


def test_a_difference_within_its_interval_is_a_tie(tmp_path):
    found = comparison(tmp_path, a=0.7000, b=0.7002)
    assert (found.decision.kind, [method.label for method in found.decision.tied]) == ("tied", ["b"])
    assert found.decision.gaps["b"].low < 0


def test_what_seeds_alone_move_is_a_tie_in_the_embedded_world(tmp_path):
    found = comparison(tmp_path, a=0.700, b=0.7045)  # beyond the captions' interval
    assert found.decision.gaps["b"].clear
    assert found.decision.kind == "tied"


def test_one_seed_without_losses_per_caption_proves_nothing(tmp_path):
    found = comparison(tmp_path, a=0.5, b=0.7, __pairs=0)
    assert (found.decision.kind, found.winner) == ("unknown", None)


def test_one_method_alone_needs_no_rival(tmp_path):
    assert comparison(tmp_path, a=0.5).decision.kind == "winner"
