import pytest

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError


def parse(**sections):
    return parse_recipe({"deployment": {"sites": ["a", "b", "c"]}, **sections}, "r.toml")


def test_sites_are_the_clients_and_bring_their_own_pairs():
    recipe = parse()
    assert recipe.scenario.clients == 3
    assert recipe.deployment.judge == "sites"
    assert recipe.deployment.start_seconds is None
    with pytest.raises(UserError, match="are at the sites"):
        recipe.check_own_pairs()
    parse(data={"num_pairs": 100}).check_own_pairs()


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"deployment": {"sites": ["a", "a"]}}, "deployment.sites: names 'a' twice"),
        ({"deployment": {"sites": ["a", "A"]}}, "differ only in case"),
        ({"deployment": {"sites": ["../a"]}}, "deployment.sites.0 = '../a'"),
        ({"deployment": {"sites": ["a"], "poll_seconds": 0.0}}, "deployment.poll_seconds = 0.0"),
        ({"deployment": {"sites": ["a"], "judge": "me"}}, "deployment.judge = 'me'"),
        ({"deployment": {"sites": ["a"], "judge": "server"}}, "needs pairs of the server's own"),
        ({"federation": {"min_clients": 4}}, "more than the 3 of 3 clients"),
        ({"scenario": {"rate_factors": {"3": 2.0}}}, "numbered 0 to 2"),
        (
            {"data": {"format": "llava", "clients": [{"name": "b", "pairs": "p"}]}, "scenario": {"kind": "given"}},
            "must have the names of deployment.sites",
        ),
        ({"deployment": {}}, "data.num_pairs: say how many"),
    ],
)
def test_what_does_not_fit_is_refused(sections, said):
    with pytest.raises(UserError) as refused:
        parse(**sections)
    assert said in str(refused.value)
