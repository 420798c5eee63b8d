import math
from pathlib import Path

import pytest

from fedcmp.config import Recipe, dump_recipe, load_recipe, parse_recipe
from fedcmp.errors import UserError
from fedcmp.study.recipe import load_study
from tests.config.recipes import MINIMAL, load


def test_a_recipe_comes_back_from_its_dump(tmp_path):
    recipe = load(
        tmp_path,
        MINIMAL
        + "[method.fedcmp]\nlearning_rate = 0.02\n"
        + "options = { parameter_exponent = 0.25, magnitude_cap = inf }\n",
    )
    assert recipe.model_dump(mode="json")["method"]["fedcmp"]["options"]["magnitude_cap"] == math.inf
    (tmp_path / "again.toml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: no such recipe"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"demo\.toml: no such recipe file; `fedcmp recipes demo --out demo\.toml`"):
        load_recipe(tmp_path / "recipes" / "demo.toml")


def test_a_folder_is_answered_with_the_recipe_in_it(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; name the recipe, a TOML file$"):
        load_recipe(tmp_path)
    for name in ("again.toml", "recipe.toml"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"is a folder; name the recipe in it: .*recipe\.toml$"):
        load_recipe(tmp_path)


def test_overrides_replace_and_are_checked(tmp_path):
    options = ["training.learning_rate=0.5", "run.name=other", 'run.methods=["local", "fedavg"]', "federation.rounds=2"]
    recipe = load(tmp_path, MINIMAL, options)
    assert (recipe.training.learning_rate, recipe.run.name, recipe.federation.rounds) == (0.5, "other", 2)
    assert recipe.run.methods == ["local", "fedavg"]
    for wrong, message in [
        ("rounds=3", "write section.key=value"),
        ("federation.rounds", "write section.key=value"),
        ("federation.rounds=few", "must be a valid integer"),
        ("federation.turns=3", "unknown key"),
        ("federation.rounds=0", "federation.rounds = 0: must be at least 1$"),
        ("run.methods=fedavg", r"run.methods = 'fedavg': must be a list, such as \["),
    ]:
        with pytest.raises(UserError, match=message):
            load(tmp_path, MINIMAL, [wrong])


def test_data_paths_are_relative_to_the_recipe(tmp_path):
    text = """
[data]
format = "llava"
[[data.clients]]
name = "a"
pairs = "a/pairs.json"
images = "a/images"
[[data.clients]]
name = "b"
pairs = ["/somewhere/b.json"]
[scenario]
kind = "given"
"""
    recipe = load(tmp_path, text)
    assert recipe.data.clients[0].pairs == tmp_path / "a/pairs.json"
    assert recipe.data.clients[0].images == tmp_path / "a/images"
    assert recipe.data.clients[1].pairs == [Path("/somewhere/b.json")]
    assert recipe.scenario.clients == 2
    recipe = load(tmp_path, text.replace("a/images", "../../images/x/../y"))
    assert str(recipe.data.clients[0].images) == str(tmp_path.parent.parent / "images/x") + "/../y"


def test_whole_numbers_are_numbers_and_strings_are_paths(tmp_path):
    recipe = load(tmp_path, MINIMAL + "[run]\nfolder = 'out'\n[training]\nlearning_rate = 1\nbeta_1 = 0\n")
    assert (recipe.training.learning_rate, recipe.training.beta_1, recipe.run.folder) == (1.0, 0.0, Path("out"))


def test_model_folders_beside_the_recipe_are_found_there(tmp_path, monkeypatch):
    (tmp_path / "beside/mine").mkdir(parents=True)
    (tmp_path / "beside/world").mkdir()
    (tmp_path / "elsewhere/typed").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    names = [("mine", str(tmp_path / "beside/mine")), ("./mine", str(tmp_path / "beside/mine"))]
    names += [(same, same) for same in ("world", "owner/name", "typed", "./typed", str(tmp_path / "elsewhere/typed"))]
    for name, expected in names:
        recipe = load(tmp_path / "beside", MINIMAL + f"[model]\nvision = '{name}'\nlanguage = '{name}'\n")
        assert (recipe.model.vision, recipe.model.language) == (expected, expected)


def test_model_options(tmp_path):
    assert load(tmp_path, MINIMAL + "[model]\nvision_layer = [-2, -5]\n").model.vision_layer == [-2, -5]
    recipe = load(tmp_path, MINIMAL + "[model]\nprojector_from = 'llava/mm_projector.bin'\n")
    assert recipe.model.projector_from == tmp_path / "llava" / "mm_projector.bin"
    for text, message in (
        ("vision_layer = []", r"model\.vision_layer"),
        ('vision_layer = "last"', r"model\.vision_layer = 'last': must be a valid integer"),
        ('instruction = "Describe."', r"model\.instruction: goes with model\.prompt = \"chat\""),
        ('prompt = "vicuna"', r"model\.prompt = 'vicuna': must be 'plain' or 'chat'"),
    ):
        with pytest.raises(UserError, match=message):
            load(tmp_path, MINIMAL + f"[model]\n{text}\n")


def test_every_key_that_is_not_plain_is_described():
    """A newcomer reads the recipe's keys; those without a description must speak for themselves."""
    plain = {"seed", "vision_strategy", "projector", "initialisation", "dtype", "device", "format", "kind", "clients"}
    plain |= {"rounds", "on_bad_update", "warmup_ratio", "beta_1", "beta_2", "weight_decay", "max_gradient_norm"}
    plain |= {"learning_rate", "name", "pairs", "images", "feature_dtype"}
    for section in Recipe.model_fields.values():
        inner = section.annotation
        for key, value in getattr(inner, "model_fields", {}).items():
            assert value.description or key in plain, key


def test_a_dumped_recipe_needs_no_file():
    assert parse_recipe({"data": {"num_pairs": 5}}, "here").data.num_pairs == 5


def test_an_entry_of_a_list_is_overridden_as_errors_name_it(tmp_path):
    """-o data.clients.0.images=..., which a message about that key invites."""
    text = '[data]\nformat = "llava"\n[[data.clients]]\nname = "a"\npairs = "a.json"\nimages = "nowhere"\n'
    text += '[[data.clients]]\nname = "b"\npairs = "b.json"\n[scenario]\nkind = "given"\n'
    recipe = load(
        tmp_path, text, ["data.clients.0.images=here", "run.methods=['local', 'fedavg']", "run.methods.1=ties"]
    )
    assert (recipe.data.clients[0].images, recipe.run.methods) == (tmp_path / "here", ["local", "ties"])
    for wrong in ("data.clients.2.images=here", "data.clients.a.images=here"):
        with pytest.raises(UserError, match=r"clients is a list; name one of its 2 entries by number, from 0"):
            load(tmp_path, text, [wrong])


def test_the_recipe_of_a_study_is_no_runs_and_the_other_way_round(tmp_path):
    (tmp_path / "study.toml").write_text('[study]\nname = "s"\n')
    with pytest.raises(UserError, match=r"is the recipe of a study; run it with `fedcmp study .*study\.toml`"):
        load_recipe(tmp_path / "study.toml")
    (tmp_path / "run.toml").write_text(MINIMAL if "[run]" in MINIMAL else "[run]\n" + MINIMAL)
    with pytest.raises(UserError, match=r"is the recipe of a run; train it with `fedcmp train .*run\.toml`"):
        load_study(tmp_path / "run.toml")
