"""A rule, an objective and a step work together as their names say, or are refused before anything is run."""

import pytest

from fedcmp.config.catalogue import aggregators, objectives, steps
from fedcmp.config.methods import COMBINATIONS, NEEDS_SERVER, NOT_FEDERATED, choose, choose_alone
from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL, load

NEEDED = {"scaffold": "scaffold"}


@pytest.mark.parametrize("objective", list(objectives()))
@pytest.mark.parametrize("aggregator", list(aggregators()))
def test_halves_of_one_method_go_together_and_others_are_free(aggregator, objective):
    fits = objective == NEEDED[aggregator] if aggregator in NEEDED else objective not in NEEDED.values()
    if fits:
        assert choose("mine", aggregator=aggregator, objective=objective).objective == objective
        return
    with pytest.raises(ValueError, match=r"^(aggregator|objective): .*set (objective|aggregator) = "):
        choose("mine", aggregator=aggregator, objective=objective)


@pytest.mark.parametrize("step", list(steps()))
@pytest.mark.parametrize("aggregator", list(aggregators()))
def test_every_step_goes_with_every_rule(aggregator, step):
    chosen = choose("mine", aggregator=aggregator, objective=NEEDED.get(aggregator), step=step)
    rule = chosen.create_aggregator()
    assert (chosen.step, rule.round) == (step, 0)
    plain = choose("mine", aggregator=aggregator, objective=NEEDED.get(aggregator)).create_aggregator()
    assert rule.adds_up == plain.adds_up
    assert rule.extras >= plain.extras
    assert rule.sends >= plain.sends


@pytest.mark.parametrize("name", list(NOT_FEDERATED))
@pytest.mark.parametrize("step", list(steps()))
def test_a_learner_without_a_server_takes_every_step_that_needs_none(name, step):
    if step in NEEDS_SERVER:
        with pytest.raises(ValueError, match=f"{step}.* hears from a server"):
            choose_alone(f"{name}-with-{step}")
        return
    chosen = choose_alone(f"{name}-with-{step}")
    assert chosen == choose_alone(name, step=step)
    assert (chosen.aggregator, chosen.objective, chosen.step) == ("", "plain", step)
    assert chosen.step_options == ({"basis": "own"} if step == "canonical" else {})


def test_a_method_sets_options_of_its_rule_unless_another_rule_takes_its_place():
    assert choose("muloco").options == {"learning_rate": 0.7, "momentum": 0.6}
    assert choose("muloco", options={"momentum": 0.9}).options == {"learning_rate": 0.7, "momentum": 0.9}
    other = choose("muloco", aggregator="fedavg")
    assert (other.options, other.step) == ({}, "muon")
    for name in COMBINATIONS:
        choose(name).create_aggregator()
        choose(name).create_step()
        choose(name).create_objective()


def test_a_random_basis_is_drawn_from_the_runs_seed(tmp_path):
    table = '[run]\nseed = 7\nmethods = ["mine"]\n[method.mine]\naggregator = "fedavg"\nstep = "canonical"\n'
    recipe = load(tmp_path, MINIMAL + table + 'step_options = { basis = "random" }\n')
    assert recipe.chosen("mine").step_options == {"basis": "random", "seed": 7}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('aggregator = "scaffold"', r"method\.mine\.aggregator: 'scaffold' reads what only"),
        ('aggregator = "fedavg"\nobjective = "scaffold"', r"method\.mine\.objective: 'scaffold' needs what only"),
        ('aggregator = "ties"\noptions = { densty = 1 }', r"method\.mine\.options: 'ties' has no option 'densty'; did"),
        (
            'aggregator = "fedavg"\nobjective = "moon"\nobjective_options = { mue = 1 }',
            r"method\.mine\.objective_options: 'moon' has no option 'mue'; did you mean 'mu'\?",
        ),
        ('aggregator = "ties"\noptions = { density = 2 }', r"method\.mine\.options: density = 2: must be"),
        ('aggregator = "ties"\noptions = { density = nan }', r"method\.mine\.options: density = nan"),
        ('aggregator = "fedavg"\nobjective = "canonical"', r"objective: \"canonical\" is a step now: write step ="),
        (
            'aggregator = "shared-basis"\nobjective_options = { stretch = false }',
            r"method\.mine\.objective_options: stretch belongs to the step now: write step_options = ",
        ),
        ('aggregator = "fedavg"\nstep = "mun"', r"method\.mine\.step: no step is named 'mun'; did you mean muon"),
        (
            'aggregator = "fedavg"\nstep = "soap"\nstep_options = { refersh = 1 }',
            r"method\.mine\.step_options: 'soap' has no option 'refersh'; did you mean 'refresh'\?",
        ),
        (
            'aggregator = "fedavg"\nstep = "soap"\nstep_options = { refresh = 0 }',
            r"method\.mine\.step_options: refresh = 0: must be",
        ),
        (
            'aggregator = "fedavg"\nstep = "canonical"\nstep_options = { basis = "mine" }',
            r"method\.mine\.step_options: basis = 'mine': must be one of 'shared'",
        ),
    ],
)
def test_the_place_is_named(tmp_path, table, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, MINIMAL + f"[method.mine]\n{table}\n")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[method.centralized]\naggregator = "fedavg"\n', "has no aggregator, hence no options"),
        ('[method.local-with-soap]\nobjective = "moon"\n', "has no aggregator, hence no options"),
        ("[method.centralized-with-fast]\n", "name it centralized-with-STEP, or set step; no step is named 'fast'"),
        ('[method.centralized]\nstep = "fedmuon"\n', r"method\.centralized\.step: 'fedmuon' hears from a server"),
    ],
)
def test_what_a_learner_without_a_server_cannot_be_is_named(tmp_path, table, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, MINIMAL + table)


def test_a_combination_that_a_name_stands_for_is_changed_as_a_whole(tmp_path):
    with pytest.raises(UserError, match=r"method\.scaffold\.objective: 'scaffold' reads"):
        load(tmp_path, MINIMAL + '[method.scaffold]\nobjective = "plain"\n')
