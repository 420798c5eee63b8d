"""The recipe's keys about who holds what and who takes part."""

import tomllib

import pytest

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError


def recipe(text):
    return parse_recipe({"data": {"num_pairs": 100}} | tomllib.loads(text), "recipe.toml")


def test_the_harder_worlds_of_the_study():
    many = recipe('[scenario]\nkind = "image"\nclients = 20\n[federation]\nparticipation = 0.5\n')
    assert (many.scenario.clients, many.federation.participation) == (20, 0.5)
    unreliable = recipe('[scenario]\nkind = "image"\nwrong_captions = {"1" = 0.5}\n')
    assert unreliable.scenario.wrong_captions == {"1": 0.5}
    assert recipe('[scenario]\nkind = "style"\n').scenario.clients == 5
    assert recipe('[scenario]\nkind = "cross"\n').scenario.kind == "cross"


def test_everyone_takes_part_unless_told_otherwise():
    assert recipe("").federation.participation == 1
    assert recipe("[federation]\nparticipation = 1\n").federation.participation == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[federation]\nparticipation = 0.0\n", r"federation\.participation"),
        ("[federation]\nparticipation = 1.5\n", r"federation\.participation"),
        ('[federation]\nparticipation = "half"\n', r"federation\.participation"),
        ('[scenario]\nkind = "crosswise"\n', r"scenario\.kind"),
        ('[scenario]\nwrong_captions = {"5" = 0.5}\n', r"scenario\.wrong_captions\.5: no such client"),
        ('[scenario]\nrate_factors = {"5" = 30.0}\n', r"scenario\.rate_factors\.5: no such client"),
        ('[scenario]\nrate_factors = {"1" = 0.0}\n', r"scenario\.rate_factors\.1"),
        ('[scenario]\nwrong_captions = {"1" = 1.5}\n', r"scenario\.wrong_captions\.1"),
    ],
)
def test_impossible_values_name_their_key(text, message):
    with pytest.raises(UserError, match=message):
        recipe(text)
