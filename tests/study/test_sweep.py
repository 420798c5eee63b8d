"""A sweep: what it trains, in which order it drops rates, and the recipe that comes out. Training is a formula here."""

import json
import math

import pytest

from fedcmp.config import parse_recipe
from fedcmp.errors import MethodFailed, UserError
from fedcmp.runs.records import Evaluation, RunRecord
from fedcmp.study.sweep import Sweep, chosen, with_rates


@pytest.fixture
def recipe(tmp_path):
    return parse_recipe(
        {
            "run": {"name": "mine", "folder": str(tmp_path), "methods": ["fedavg", "centralized"]},
            "data": {"num_pairs": 400},
            "training": {"learning_rate": 0.7},
            "method": {"fedavg": {"learning_rate": 0.9}, "unused": {"aggregator": "ties"}},
        },
        "test",
    )


class Trainer:
    """Writes the records that a run would: a loss that is lowest at the best factor of each method."""

    def __init__(self, best, fails=()):
        self.best, self.fails, self.recipes = best, fails, []

    def __call__(self, recipe):
        self.recipes.append(recipe)
        factor = recipe.training.rate_factor
        for method in recipe.run.methods:
            if (method, factor) in self.fails:
                raise MethodFailed(method, f"{method}, round 1: what was trained is not finite")
        for method in recipe.run.methods:
            several = len(recipe.run.methods) > 1
            folder = recipe.run.place / method if several else recipe.run.place
            folder.mkdir(parents=True, exist_ok=True)
            lines = [
                RunRecord(
                    method=method, federated=method == "fedavg", rounds=1, clients=2, seed=0, learning_rate=factor / 100
                ),
                Evaluation(
                    model="global",
                    round=1,
                    client=None,
                    split="validation",
                    caption_loss=abs(math.log(factor / self.best[method])),
                    worst_group="",
                    worst_group_loss=None,
                    group_losses={},
                    seconds=0.0,
                ),
            ]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line.line()) + "\n" for line in lines))


def test_each_method_gets_its_own_best_rate_from_a_quarter_and_then_all_of_the_pairs(recipe):
    trainer = Trainer({"fedavg": 4.0, "centralized": 0.5})
    trials = Sweep(recipe).run(trainer)
    assert chosen(trials) == {"fedavg": 0.04, "centralized": 0.005}
    rungs = [(each.data.train_share, each.training.rate_factor, each.run.methods) for each in trainer.recipes]
    both = ["fedavg", "centralized"]
    assert rungs[:5] == [(0.25, factor, both) for factor in (0.25, 0.5, 1, 2, 4)]
    assert rungs[5:] == [
        (1.0, 0.5, ["centralized"]),
        (1.0, 1.0, ["centralized"]),
        (1.0, 2.0, ["fedavg"]),
        (1.0, 4.0, ["fedavg"]),
    ] or rungs[5:7] == [(1.0, 0.25, ["centralized"]), (1.0, 0.5, ["centralized"])]


def test_it_never_looks_at_the_pairs_that_a_run_reports_on(recipe):
    trainer = Trainer({"fedavg": 1.0, "centralized": 1.0})
    Sweep(recipe).run(trainer)
    assert {each.evaluation.split for each in trainer.recipes} == {"validation"}
    assert {each.run.seed for each in trainer.recipes} == {recipe.run.seed}  # the same pairs are held out


def test_rates_that_the_recipe_names_are_not_used(recipe):
    trainer = Trainer({"fedavg": 1.0, "centralized": 1.0})
    Sweep(recipe).run(trainer)
    assert all(each.learning_rate(method) is None for each in trainer.recipes for method in each.run.methods)


def test_a_method_that_fails_at_a_rate_is_left_out_there_and_the_others_go_on(recipe):
    trainer = Trainer({"fedavg": 4.0, "centralized": 4.0}, fails={("fedavg", 4.0), ("fedavg", 2.0)})
    trials = Sweep(recipe).run(trainer)
    assert chosen(trials) == {"fedavg": 0.01, "centralized": 0.04}
    assert [trial.loss for trial in trials if trial.method == "fedavg" and trial.factor == 4] == [math.inf]


def test_a_method_that_fails_at_every_rate_is_named(recipe):
    every = {("fedavg", factor) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)}
    trials = Sweep(recipe).run(Trainer({"fedavg": 1.0, "centralized": 1.0}, fails=every))
    with pytest.raises(UserError, match="fedavg: diverged at every rate"):
        chosen(trials)


def test_the_budget_is_what_is_trained(recipe):
    assert "2 methods: 5 rates" in Sweep(recipe).budget()
    assert "3.25 times the training" in Sweep(recipe).budget()
    assert "1.25 times" in Sweep(recipe, factors=(1.0,)).budget()


def test_the_recipe_that_comes_out_has_the_rates_and_all_else_as_it_was():
    content = {"data": {"num_pairs": 4}, "method": {"fedavg": {"learning_rate": 1.0, "options": {}}}}
    out = with_rates(content, {"fedavg": 0.5, "local": 0.25})
    assert out["method"] == {"fedavg": {"learning_rate": 0.5, "options": {}}, "local": {"learning_rate": 0.25}}
    assert out["data"] == content["data"]
    assert content["method"]["fedavg"]["learning_rate"] == 1.0
