"""The untouched world's plan is the recipe's, and its hypotheses are judged as it says."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from docs.write_untouched import (
    PLAN,
    RECIPE,
    SAME_STEP,
    digest,
    findings,
    freeze,
    frozen,
    hypotheses_table,
    page,
    shares_table,
    target,
    verdict,
)
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.statistics import PairedDifference
from fedcmp.study.plan import grid
from fedcmp.study.recipe import load_study as load_recipe
from tests.report.study import fakes

ROOT = Path(__file__).parents[2]


def test_the_recipe_is_the_one_that_the_plan_froze():
    """Change it while the plan is open, and `python docs/write_untouched.py --freeze` after that."""
    assert frozen(PLAN.read_text(encoding="utf-8")) == digest(RECIPE)


def test_nothing_is_tuned_and_the_plan_names_every_rate():
    study, plan = load_recipe(RECIPE), PLAN.read_text(encoding="utf-8")
    assert {len(grid(method)) for method in study.method.values()} == {1}
    rates = dict(re.findall(r"^\| `([a-z-]+)` \| (\.\d+) \|", plan, re.MULTILINE))
    told = {name: f"{method.learning_rates[0]:g}".removeprefix("0") for name, method in study.method.items()}
    assert rates == told
    assert study.base["data"]["world"] == "untouched"
    assert {"image", "cross", "iid"} == set(study.scenario)
    assert study.study.suites == []


def test_no_other_study_has_its_seeds():
    seeds = {}
    for path in (ROOT / "recipes").glob("*.toml"):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if "study" in content:
            seeds[path.stem] = {content["tuning"]["seed"]} | {
                seed for scenario in content["scenario"].values() for seed in scenario["seeds"]
            }
    mine = seeds.pop("untouched")
    assert mine == {31, 32, 33, 34, 35, 300}
    assert not mine & set().union(*seeds.values())


def test_freezing_writes_the_sum_while_the_plan_is_open(tmp_path):
    plan, recipe = tmp_path / "plan.md", tmp_path / "recipe.toml"
    recipe.write_text("a = 1\n")
    plan.write_text(f"- **Status:** open.\n{'0' * 64}  recipes/untouched.toml\n")
    freeze(plan, recipe)
    assert frozen(plan.read_text()) == digest(recipe)
    recipe.write_text("a = 2\n")
    plan.write_text(plan.read_text().replace("open.", "frozen."))
    with pytest.raises(SystemExit, match="is closed; what changed after the first run goes under Deviations"):
        freeze(plan, recipe)
    assert frozen(plan.read_text()) != digest(recipe)


# --- the hypotheses ---

SEEDS = (31, 32, 33, 34, 35)
WIGGLES = {31: 0.002, 32: -0.001, 33: 0.003, 34: -0.003, 35: -0.001}
LOSSES = {"fedavg": 0.5, "ties": 0.46, "knots-ties": 0.45, "shared-basis": 0.38, "centralized": 0.35, SAME_STEP: 0.34}


def study_of(folder, losses, *, worst=0.2, ours_worst=0.15, scenarios=("image", "cross", "iid")):
    """A study with the given mean losses; the worst family and client of ours are nearer to its mean than others'."""
    methods = {
        name: {
            "title": name,
            "federated": not name.startswith("centralized"),
            "family": "reference" if name.startswith("centralized") else "baseline",
        }
        for name in losses
    }
    titles = {name: {"title": name.capitalize(), "seeds": list(SEEDS)} for name in scenarios}
    plan = {"format": 1, "name": "untouched", "scenarios": titles, "methods": methods, "tuning": {}}
    world = {"data": {"format": "world", "world": "untouched"}, "model": {"vision": "world", "language": "world"}}
    fakes.write_json(folder / "study.json", plan | {"sources": [world]})
    for scenario in scenarios:
        for number, (name, mean) in enumerate(losses.items()):
            for seed in SEEDS:
                loss = mean + WIGGLES[seed] + 0.0004 * ((seed * (number + 3)) % 5)
                content = fakes.run_content(name, scenario, seed, rounds=1, final=loss)
                more = ours_worst if name == "shared-basis" else worst
                figures = {"worst_family_loss": loss + more, "worst_client_loss": loss + more / 2}
                content["final"] = {**content["final"], **figures, "suites": {}}
                fakes.add_run(folder, content | {"federated": methods[name]["federated"], "rounds_evaluated": []})
    return Results.of(load_study(folder))


def by_hypothesis(results):
    table = hypotheses_table(results)
    return [(row.cells[0].plain, row.cells[1].plain, row.cells[-1].plain) for row in table.rows]


def test_a_clear_win_is_confirmed_everywhere(tmp_path):
    results = study_of(tmp_path, LOSSES)
    judged = by_hypothesis(results)
    assert {verdict for *_, verdict in judged} == {"confirmed"}
    assert [name for name, scenario, _ in judged if scenario == "Image"] == ["H1", "H2", "H3", "H3", "H3", "H4"]
    assert {scenario for _, scenario, _ in judged} == {"Image", "Cross"}  # IID is a control


def test_the_numbers_are_those_of_numpy_and_scipy(tmp_path):
    results = study_of(tmp_path, LOSSES, scenarios=("image",))
    one = results.comparisons[0]
    loss = {name: np.array([one.named(name).by_seed("caption_loss")[seed] for seed in SEEDS]) for name in LOSSES}
    first, *_ = findings(results)
    gaps = loss["fedavg"] - 0.7 * (loss["fedavg"] - loss[SAME_STEP]) - loss["shared-basis"]
    assert first.gap.mean == pytest.approx(gaps.mean())
    assert first.gap.p == pytest.approx(scipy.stats.ttest_1samp(gaps, 0).pvalue)
    closed = (loss["fedavg"].mean() - loss["shared-basis"].mean()) / (loss["fedavg"].mean() - loss[SAME_STEP].mean())
    assert (first.gap.mean > 0) == (closed > 0.7)
    (row,) = [row for row in shares_table(one).rows if row.cells[0].plain == "shared-basis"]
    assert row.cells[1].value == pytest.approx(closed)
    h2 = next(found for found in findings(results) if found.hypothesis == "H2")
    assert h2.against == "knots-ties"  # the rival of the lowest mean


def test_the_goal_is_at_its_share_of_the_way():
    assert target({1: 0.5, 2: 0.6}, {1: 0.3, 3: 0.1}) == {1: pytest.approx(0.36)}


def test_too_small_a_share_or_a_bad_worst_family_is_refuted(tmp_path):
    results = study_of(tmp_path, LOSSES | {"shared-basis": 0.44}, ours_worst=0.4)
    judged = by_hypothesis(results)
    assert {verdict for name, _, verdict in judged if name in ("H1", "H2", "H4")} == {"refuted"}
    assert {verdict for name, _, verdict in judged if name == "H3"} == {"confirmed"}


def test_what_did_not_run_is_said(tmp_path):
    results = study_of(tmp_path, {name: loss for name, loss in LOSSES.items() if name != SAME_STEP})
    judged = by_hypothesis(results)
    assert {verdict for name, _, verdict in judged if name == "H1"} == {"not run"}
    assert "not run" not in {verdict for name, _, verdict in judged if name != "H1"}


@pytest.mark.parametrize(
    ("mean", "p", "said"),
    [
        (0.1, 0.01, "confirmed"),
        (0.1, 0.2, "reached, not shown"),
        (0.0, 1.0, "reached, not shown"),
        (0.1, None, "reached, not shown"),
        (-0.1, 0.2, "missed"),
        (-0.1, 0.01, "refuted"),
        (float("nan"), None, "no mean: a run diverged"),
    ],
)
def test_verdicts_are_those_of_the_plan(mean, p, said):
    assert verdict(PairedDifference(mean, 0.01, 5, p), p) == said
    assert verdict(None, None) == "not run"
    if "diverged" not in said:
        assert f"| {said} |" in PLAN.read_text(encoding="utf-8")


def test_the_page_says_which_world_it_is_of(tmp_path):
    text = page(study_of(tmp_path, LOSSES))
    assert "families and styles that neither the frozen models nor any tuning saw" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Hypotheses",
        "## Image: distance from FedAvg closed",
        "## Cross: distance from FedAvg closed",
        "## Iid: distance from FedAvg closed",
    ]
