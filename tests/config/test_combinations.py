"""A rule and an objective work together as their names say, or are refused before anything is run."""

import pytest

from fedcmp.config.catalogue import aggregators, objectives
from fedcmp.config.methods import choose
from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL, load

NEEDED = {"shared-basis": "canonical", "regmean": "canonical", "scaffold": "scaffold"}


@pytest.mark.parametrize("objective", list(objectives()))
@pytest.mark.parametrize("aggregator", list(aggregators()))
def test_halves_of_one_method_go_together_and_others_are_free(aggregator, objective):
    fits = objective == NEEDED[aggregator] if aggregator in NEEDED else objective not in NEEDED.values()
    if fits:
        assert choose("mine", aggregator=aggregator, objective=objective).objective == objective
        return
    with pytest.raises(ValueError, match=r"^(aggregator|objective): .*set (objective|aggregator) = "):
        choose("mine", aggregator=aggregator, objective=objective)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('aggregator = "knots-ties"\nobjective = "canonical"', r"method\.mine\.objective: 'canonical' needs what only"),
        (
            'aggregator = "shared-basis"',
            r"method\.mine\.aggregator: 'shared-basis' reads .* set objective = \"canonical\"",
        ),
        (
            'aggregator = "regmean"',
            r"method\.mine\.aggregator: 'regmean' reads what only .* set objective = \"canonical\"",
        ),
        ('aggregator = "scaffold"', r"method\.mine\.aggregator: 'scaffold' reads what only"),
        ('aggregator = "fedavg"\nobjective = "scaffold"', r"method\.mine\.objective: 'scaffold' needs what only"),
        ('aggregator = "ties"\noptions = { densty = 1 }', r"method\.mine\.options: 'ties' has no option 'densty'; did"),
        (
            'aggregator = "fedavg"\nobjective = "moon"\nobjective_options = { mue = 1 }',
            r"method\.mine\.objective_options: 'moon' has no option 'mue'; did you mean 'mu'\?",
        ),
        ('aggregator = "ties"\noptions = { density = 2 }', r"method\.mine\.options: density = 2: must be"),
        ('aggregator = "ties"\noptions = { density = nan }', r"method\.mine\.options: density = nan"),
    ],
)
def test_the_place_is_named(tmp_path, table, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, MINIMAL + f"[method.mine]\n{table}\n")


def test_a_combination_that_a_name_stands_for_is_changed_as_a_whole(tmp_path):
    with pytest.raises(UserError, match=r"method\.shared-basis\.objective: 'shared-basis' reads"):
        load(tmp_path, MINIMAL + '[method.shared-basis]\nobjective = "plain"\n')
