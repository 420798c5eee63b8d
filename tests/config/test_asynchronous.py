"""What asynchronous rounds and client speeds need of a recipe: refused where it stands, before anything is run."""

import pytest

from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL, load

ASYNC, FEDAVG = 'federation.mode="async"', 'run.methods=["fedavg"]'
SPEEDS = "scenario.client_seconds=[1, 1.5, 2, 2.5, 10]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["federation.buffer_size=3"], r'federation\.buffer_size: goes with federation\.mode = "async"'),
        ([ASYNC, FEDAVG, "federation.buffer_size=0"], "at least 1"),
        ([ASYNC, FEDAVG, "federation.staleness_discount=-0.5"], "at least 0"),
        ([ASYNC, FEDAVG, "run.cohort=5"], r"run\.cohort = 5: asynchronous clients .* train one by one"),
        (
            [ASYNC, FEDAVG, "federation.min_clients=3"],
            r"min_clients = 3: more than the 2 replies of a merge",
        ),
        ([ASYNC, 'run.methods=["scaffold"]'], "scaffold needs synchronous rounds, for its control variates"),
        ([ASYNC, 'run.methods=["regmean"]'], "regmean needs synchronous rounds, for its Gram matrices"),
        (
            [
                ASYNC,
                'run.methods=["mine"]',
                'method.mine.aggregator="shared-basis"',
                'method.mine.step="canonical"',
            ],
            "mine needs synchronous rounds, for its clients step in the one basis",
        ),
        ([ASYNC, 'run.methods=["fedpac-soap"]'], "fedpac-soap needs synchronous rounds, for its clients' steps"),
        (['federation.mode="later"'], "sync"),
        (["scenario.client_seconds=[1, 2]"], r"scenario\.client_seconds: 2 numbers for 5 clients; give one for each"),
        (["scenario.client_seconds=[0, 1, 1, 1, 1]"], "greater than 0|above 0|more than 0"),
        (['scenario.clock="real"'], r'scenario\.clock = "real": goes with scenario\.client_seconds'),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, MINIMAL, options)
    assert "\n" not in str(caught.value)


def test_references_without_a_server_and_rules_of_single_clients_may_be_run(tmp_path):
    methods = (
        '["fedavg", "fedcmp", "fisher", "moon", "fedprox", "dare", "knots-ties", "diloco", "local", "centralized"]'
    )
    recipe = load(tmp_path, MINIMAL, [ASYNC, SPEEDS, f"run.methods={methods}", "federation.min_clients=2"])
    assert recipe.federation.mode == "async"
    assert recipe.scenario.client_seconds[4] == 10.0
