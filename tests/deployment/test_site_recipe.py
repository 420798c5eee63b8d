"""The recipe by which a site works: the server's settings, the site's own paths, models and limits."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from fedcmp.config import dump_recipe, parse_recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.server_run import invitation_recipe
from fedcmp.deployment.site_file import Site
from fedcmp.deployment.site_recipe import read_server_recipe, site_recipe

HOSTILE = "/server/chose/this"
SERVER = {
    "run": {
        "name": "theirs",
        "folder": HOSTILE,
        "cache": HOSTILE,
        "seed": 5,
        "methods": ["fedavg", "quick"],
        "workers": 64,
        "save_seconds": 1e8,
        "track": ["wandb"],
        "preflight": "warn",
    },
    "model": {
        "vision": HOSTILE,
        "language": HOSTILE,
        "projector_from": HOSTILE,
        "device": "cuda:7",
        "compile": True,
        "dtype": "auto",
        "vision_layer": -3,
        "projector": "linear",
        "prompt": "chat",
        "instruction": "Say what is there.",
        "logit_rows": 1,
    },
    "data": {
        "format": "llava",
        "pairs": HOSTILE,
        "images": HOSTILE,
        "num_pairs": 3,
        "held_out": 0.25,
        "train_share": 0.5,
        "max_caption_tokens": 32,
        "max_bad_fraction": 1.0,
        "max_pixels": 10**10,
        "feature_store": False,
        "feature_dtype": "int8",
    },
    "scenario": {"kind": "manifest", "manifest": HOSTILE, "clients": 9, "max_missing_fraction": 0.125},
    "federation": {"rounds": 7, "payload": "int8"},
    "training": {"batch_size": 4, "learning_rate": 0.5, "weight_decay": 0.25},
    "evaluation": {"captions": 100, "questions": HOSTILE, "questions_per_kind": 64, "samples": 8},
    "method": {"quick": {"aggregator": "fedavg", "learning_rate": 0.125}},
    "deployment": {"sites": ["north", "south", "west"]},
}


def site_of(tmp_path, **sections):
    identity = {"name": "north", "server": "127.0.0.1:9000", "folder": str(tmp_path / "state")}
    data = {"format": "webdataset", "pairs": [str(tmp_path / "a.tar")], "max_bad_fraction": 0.5, "max_pixels": 1000}
    return Site.model_validate({"site": identity, "data": data} | sections)


def strings(value):
    """Every text and path in a nested value."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in strings(inner)]
    return [str(value)] if isinstance(value, str | Path) else []


def recipe_of(tmp_path, site=None, **changes):
    content = {section: SERVER[section] | changes.get(section, {}) for section in SERVER}
    return site_recipe(tomli_w.dumps(content), site or site_of(tmp_path), tmp_path / "state" / "runs" / ("ab" * 16))


def test_no_path_and_no_model_of_the_servers_is_read(tmp_path):
    recipe = recipe_of(tmp_path)
    assert [text for text in strings(recipe.model_dump()) if HOSTILE in text] == []
    assert (recipe.model.vision, recipe.model.language, recipe.model.projector_from) == ("world", "world", None)
    assert recipe.data.clients[0].pairs == [tmp_path / "a.tar"]
    assert (recipe.data.pairs, recipe.data.images, recipe.data.num_pairs) == (None, None, None)
    assert recipe.scenario.manifest is None
    assert recipe.evaluation.questions is None
    assert recipe.run.place == tmp_path / "state" / "runs" / ("ab" * 16)
    assert recipe.run.cache == tmp_path / "state" / "cache"


def test_it_is_a_recipe_of_its_own_that_can_be_written_and_read(tmp_path):
    federation = {"rounds": 2, "min_clients": 2, "mode": "async", "buffer_size": 2}
    found = recipe_of(tmp_path, federation=federation)
    assert parse_recipe(tomllib.loads(dump_recipe(found)), "site") == found


def test_a_sites_limits_are_its_own(tmp_path):
    recipe = recipe_of(tmp_path, site_of(tmp_path, limits={"save_seconds": 7.0}, model={"device": "cpu"}))
    assert (recipe.run.workers, recipe.run.save_seconds, recipe.run.track) == (1, 7.0, [])
    assert recipe.run.preflight == "refuse"
    assert (recipe.model.device, recipe.model.compile) == ("cpu", False)
    assert (recipe.data.max_bad_fraction, recipe.data.max_pixels, recipe.data.feature_store) == (0.5, 1000, True)
    assert (recipe.evaluation.samples, recipe.evaluation.questions_per_kind) == (0, 0)


def test_the_training_is_the_servers(tmp_path):
    recipe, asked = recipe_of(tmp_path), parse_recipe(SERVER, "test")
    assert recipe.run.seed == 5
    assert recipe.run.methods == ["fedavg", "quick"]
    assert (recipe.federation, recipe.training, recipe.method) == (asked.federation, asked.training, asked.method)
    assert (recipe.model.vision_layer, recipe.model.projector, recipe.model.prompt) == (-3, "linear", "chat")
    assert recipe.model.instruction == "Say what is there."
    assert (recipe.data.held_out, recipe.data.train_share) == (0.25, 0.5)
    assert (recipe.data.max_caption_tokens, recipe.data.feature_dtype) == (32, "int8")


def test_a_site_judges_its_share_of_the_captions(tmp_path):
    assert recipe_of(tmp_path).evaluation.captions == 34  # a third of 100, rounded up
    alone = recipe_of(tmp_path, deployment={"sites": ["north"]})
    assert alone.evaluation.captions == 100


@pytest.mark.parametrize(
    ("asked", "own", "found"),
    [
        ("auto", None, "float32"),
        ("bfloat16", None, "bfloat16"),
        ("float32", "float16", "float16"),
    ],
)
def test_the_frozen_parts_type_is_the_sites_or_the_recipes_and_never_a_probes(tmp_path, asked, own, found):
    """A probe could choose another one on each machine."""
    site = site_of(tmp_path, model={"dtype": own} if own else {})
    assert recipe_of(tmp_path, site, model={"dtype": asked}).model.dtype == found


def test_a_share_of_a_scenario_says_which_pairs(tmp_path):
    data = {"format": "webdataset", "pairs": [str(tmp_path / "a.tar")], "scenario": str(tmp_path / "share")}
    recipe = recipe_of(tmp_path, site_of(tmp_path, data=data))
    assert (recipe.scenario.kind, recipe.scenario.manifest, recipe.scenario.clients) == (
        "manifest",
        tmp_path / "share",
        1,
    )
    assert recipe.scenario.max_missing_fraction == 0.125
    assert recipe.data.pairs == [tmp_path / "a.tar"]


def test_the_invitation_of_our_own_server_names_no_path_either(tmp_path):
    asked = parse_recipe(SERVER | {"data": SERVER["data"] | {"num_pairs": 5}}, "test")
    text = invitation_recipe(asked)
    assert HOSTILE not in text
    site = site_of(tmp_path)
    there, here = (site_recipe(t, site, tmp_path / "run") for t in (text, dump_recipe(asked)))
    assert there == here


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[run", "the server's recipe is not valid TOML: "),
        ("a = " + "[" * 50_000, "the server's recipe is not valid TOML: "),
        ("a = " + "9" * 5000, "the server's recipe is not valid TOML: "),
        ("[run]\nsurprise = 1\n", "the server's recipe: run.surprise"),
        ("[run]\nmethods = ['no such']\n[data]\nnum_pairs = 1\n", "the server's recipe: run.methods"),
        ("[study]\n", "the server's recipe: is the recipe of a study"),
    ],
)
def test_what_is_no_recipe_is_declined_in_one_line(text, line):
    with pytest.raises(Declined) as refused:
        read_server_recipe(text)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
