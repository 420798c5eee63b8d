import math
from pathlib import Path

import pytest

from fedcmp.config import Recipe, dump_recipe, load_recipe, parse_recipe
from fedcmp.errors import UserError

MINIMAL = "[data]\nnum_pairs = 100\n"
CLIENTS = """
[data]
format = "llava"
{}
[[data.clients]]
name = "a"
pairs = "a.json"
[scenario]
kind = "given"
"""


def load(tmp_path, text, overrides=None):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return load_recipe(path, overrides)


def test_a_recipe_comes_back_from_its_dump(tmp_path):
    recipe = load(
        tmp_path,
        MINIMAL
        + "[method.fedcmp-published]\nlearning_rate = 0.02\n"
        + "options = { parameter_exponent = 0.25, magnitude_cap = inf }\n",
    )
    assert recipe.model_dump(mode="json")["method"]["fedcmp-published"]["options"]["magnitude_cap"] == math.inf
    (tmp_path / "again.toml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.toml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "[federation]\nround = 3\n", r"federation\.round: unknown key; did you mean rounds\?"),
        (MINIMAL + "[fedration]\nrounds = 3\n", r"fedration: unknown key; did you mean federation\?"),
        (MINIMAL + "[federation]\nrounds = 0\n", r"federation\.rounds = 0: must be greater than or equal to 1"),
        (MINIMAL + '[federation]\nrounds = "many"\n', r"federation\.rounds = 'many': must be a valid integer"),
        (MINIMAL + '[run]\nmethods = ["fedavgg"]\n', r"no method is named 'fedavgg'; did you mean fedavg\?"),
        (MINIMAL + '[run]\nmethods = ["fedavg", "fedavg"]\n', "named twice"),
        (MINIMAL + '[run]\nname = "../up"\n', r"run\.name = '\.\./up'"),
        (MINIMAL + '[scenario]\nkind = "given"\n', r"needs \[\[data\.clients\]\]"),
        (MINIMAL + '[scenario]\nkind = "moon"\n', r"scenario\.kind = 'moon': must be 'iid', "),
        (MINIMAL + "[scenario.wrong_captions]\n7 = 0.5\n", r"scenario\.wrong_captions\.7: no such client"),
        (MINIMAL + "[method.local]\noptions = { gamma = 1 }\n", r"method\.local: has no aggregator"),
        (MINIMAL + "[method.fedcmp]\noptions = { gama = 1 }\n", r"method\.fedcmp\.options: .*gama"),
        (MINIMAL + '[method.fedcmp]\noptions = { rank = "half" }\n', r"method\.fedcmp\.options: .*rank"),
        ("[run]\nseed = 1\n", r"data\.num_pairs: say how many"),
        ('[data]\nformat = "llava"\n', r"data\.pairs: missing"),
        ('[data]\nnum_pairs = 10\npairs = "a.json"\n', "makes its own pairs"),
        ('[data]\nformat = "llava"\npairs = "a.json"\n[scenario]\nkind = "style"\n', "only the embedded world"),
        ('[data]\nnum_pairs = 10\n[evaluation]\nquestions = "q.jsonl"\n', "the embedded world asks its own questions"),
        ('[model]\nvision = "some/clip"\n', r"data\.num_pairs: say how many"),
        (CLIENTS.format("num_pairs = 9"), r"data\.num_pairs: .*give each client its own files"),
        ("[data\n", "not valid TOML"),
        ("data = 3\n", r"data = 3: must be a table"),
        (MINIMAL + "[training]\nbeta_1 = 1.0\n", r"training\.beta_1 = 1\.0: must be less than 1$"),
        (MINIMAL + "[training]\nbeta_2 = 1\n", r"training\.beta_2 = 1: must be less than 1$"),
        (MINIMAL + "[training]\nlearning_rate = inf\n", r"training\.learning_rate = inf: must be a finite number"),
        (MINIMAL + "[training]\nmax_gradient_norm = inf\n", r"max_gradient_norm = inf: must be a finite number"),
        (
            MINIMAL + "[method.local]\nlearning_rate = nan\n",
            r"method\.local\.learning_rate = nan: must be a finite number",
        ),
        (MINIMAL + "[federation]\nrounds = true\n", r"federation\.rounds = True: must be a valid integer"),
        (MINIMAL + '[federation]\nrounds = "3"\n', r"federation\.rounds = '3': must be a valid integer"),
        (MINIMAL + '[training]\nlearning_rate = "3"\n', r"training\.learning_rate = '3': must be a valid number"),
        (MINIMAL + "feature_store = 1\n", r"data\.feature_store = 1: must be a valid boolean"),
        ('[data]\nformat = "llava"\npairs = 3\n', r"toml: data\.pairs = 3: must be a path or a list of paths$"),
        (
            '[data]\nformat = "llava"\npairs = ["a", 3]\n',
            r"data\.pairs = \['a', 3\]: must be a path or a list of paths$",
        ),
        (MINIMAL + "[run]\nfolder = 3\n", r"run\.folder = 3: must be a path$"),
        (CLIENTS.format("").replace("pairs =", "pair ="), r"clients\.0\.pair: unknown key; did you mean pairs\?"),
        (CLIENTS.format("").replace("pairs =", "images ="), r"data\.clients\.0\.pairs: missing$"),
        (MINIMAL + "[model]\nvision = ''\n", r"model\.vision = ''"),
        (
            MINIMAL + "[method.mine]\nlearning_rate = 1\n",
            r"toml: method\.mine: no method is named 'mine'\. There are: centralized",
        ),
        (
            MINIMAL + "[method.mine]\naggregator = 'fedag'\n",
            r"method\.mine\.aggregator: .* did you mean fedavg\? There are",
        ),
        (MINIMAL + "[method.report]\naggregator = 'fedavg'\n", r"method\.report: 'report' is a folder"),
        (MINIMAL + '[run]\nmethods = ["prepared"]\n', r"run\.methods: 'prepared' is a folder"),
        (MINIMAL + '[method.evaluations]\naggregator = "fedavg"\n', r"method\.evaluations: 'evaluations' is a folder"),
        (MINIMAL + '[method."../up"]\naggregator = "fedavg"\n', r"method\.\.\./up: '\.\./up' names a folder; use"),
    ],
)
def test_mistakes_are_told_in_one_line_with_their_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "recipe.toml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: no such recipe"):
        load_recipe(tmp_path / "none.toml")


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
