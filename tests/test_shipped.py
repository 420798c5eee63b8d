import pytest

from fedcmp.config import load_recipe
from fedcmp.errors import UserError
from fedcmp.shipped import FOLDER, shipped_recipe, shipped_recipes
from fedcmp.study.recipe import load_study


def test_every_recipe_of_the_package_is_listed_and_says_what_it_is_for():
    recipes = shipped_recipes()
    assert {recipe.path for recipe in recipes.values()} == set(FOLDER.glob("*.toml"))
    assert next(iter(recipes)) == "demo"
    for recipe in recipes.values():
        assert 20 < len(recipe.summary) < 130, recipe
        assert recipe.summary.endswith(".")


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_is_valid_for_the_verb_that_it_names(name):
    recipe = shipped_recipe(name)
    (load_study if recipe.verb == "study" else load_recipe)(recipe.path)


def test_the_folder_that_people_know_holds_the_same_files():
    assert (FOLDER.parents[2] / "recipes").resolve() == FOLDER


def test_a_mistyped_name_gets_the_nearest():
    assert shipped_recipe("demo.toml").name == "demo"
    with pytest.raises(UserError, match=r"demmo: no recipe .*did you mean demo\?"):
        shipped_recipe("demmo")
    with pytest.raises(UserError, match="there are demo, "):
        shipped_recipe("qqqq")
