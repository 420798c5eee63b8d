"""`fedcmp init` writes a recipe that the real plan takes."""

import json
import shutil

import pytest
from PIL import Image

from fedcmp.config import load_recipe
from fedcmp.planning.preflight import plan_run
from fedcmp.world.export import export_world
from tests.cli.test_cli import invoke


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    for format in ("llava", "webdataset", "parquet"):
        export_world(folder / format, split="train", count=60, format=format)
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, world_cache):
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))


def planned(recipe):
    """The recipe, once the plan has taken it and nothing was unknown."""
    loaded = load_recipe(recipe)
    plan = plan_run(loaded)
    assert not [line for line in plan.lines if line.startswith("not sized: the number of pairs")], plan.lines
    assert not plan.misfits
    return loaded


@pytest.mark.parametrize("format", ["llava", "webdataset", "parquet"])
def test_one_collection_is_divided_among_clients(kept, tmp_path, format):
    shutil.copytree(kept / format, tmp_path / "my data")
    done = invoke("init", str(tmp_path / "my data"))
    path = tmp_path / "my data" / "recipe.toml"
    assert done.stdout == f"recipe: {path}\n"
    recipe = planned(path)
    assert (recipe.run.name, recipe.data.format, recipe.scenario.kind, recipe.scenario.clients) == (
        "my-data",
        format,
        "iid",  # too few for clusters
        2,
    )
    assert recipe.model.language == "world"
    assert "60 pairs" in path.read_text()


def test_organisations_become_clients_and_paths_are_relative(kept, tmp_path):
    for name in ("hospital-a", "Krankenhaus [b] {1..2}"):
        shutil.copytree(kept / "llava", tmp_path / "both" / name)
    done = invoke("init", str(tmp_path / "both"))
    assert done.exit_code == 0, done.exception
    shutil.move(tmp_path / "both", tmp_path / "moved")
    recipe = planned(tmp_path / "moved" / "recipe.toml")
    assert [client.name for client in recipe.data.clients] == ["Krankenhaus [b] {1..2}", "hospital-a"]
    assert recipe.data.clients[1].pairs == tmp_path / "moved" / "hospital-a" / "pairs.json"
    assert (recipe.scenario.kind, recipe.federation.rounds) == ("given", 3)  # 48 of 60 pairs train: 3 batches of 16


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_organisations_with_shards_become_clients(kept, tmp_path, format):
    for name in ("a", "b"):
        shutil.copytree(kept / format, tmp_path / "both" / name)
    assert invoke("init", str(tmp_path / "both")).exit_code == 0
    recipe = planned(tmp_path / "both" / "recipe.toml")
    assert recipe.data.format == format
    assert [client.pairs.parent for client in recipe.data.clients] == [tmp_path / "both" / name for name in ("a", "b")]


def test_many_shards_are_named_by_their_folder(kept, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(20):
        shutil.copy(kept / "webdataset" / "shard-0000.tar", tmp_path / "many" / f"{number:05}.tar")
    assert invoke("init", str(tmp_path / "many")).exit_code == 0
    assert planned(tmp_path / "many" / "recipe.toml").data.pairs == tmp_path / "many"
    shutil.copy(kept / "webdataset" / "shard-0000.tar", tmp_path / "many" / "test-00000.tar")
    assert invoke("init", str(tmp_path / "many"), "--out", str(tmp_path / "other.toml")).exit_code == 0
    assert len(planned(tmp_path / "other.toml").data.pairs) == 20  # not the test split


def test_a_recipe_elsewhere_names_the_pairs_absolutely(kept, tmp_path):
    assert invoke("init", str(kept / "llava"), "--out", str(tmp_path / "new" / "mine.toml")).exit_code == 0
    assert planned(tmp_path / "new" / "mine.toml").data.pairs == kept / "llava" / "pairs.json"
    assert not (kept / "llava" / "recipe.toml").exists()


def test_nothing_is_overwritten(kept, tmp_path):
    (tmp_path / "recipe.toml").write_text("mine")
    done = invoke("init", str(kept / "llava"), "--out", str(tmp_path / "recipe.toml"))
    assert "is there already and is not overwritten" in str(done.exception)
    assert (tmp_path / "recipe.toml").read_text() == "mine"


def photos(folder, count):
    folder.mkdir()
    records = [{"image": f"{i}.png", "caption": f"Photo {i} of an osprey above Gdańsk"} for i in range(count)]
    for record in records:
        Image.new("RGB", (8, 8)).save(folder / record["image"])
    (folder / "pairs.json").write_text(json.dumps([*records, {"image": "x.png", "caption": " "}]))


def test_words_that_the_embedded_llm_lacks_name_real_models(tmp_path, monkeypatch):
    monkeypatch.setattr("fedcmp.model.hub.unreachable", lambda name: "the hub was not asked")
    photos(tmp_path / "photos", 40)
    done = invoke("init", str(tmp_path / "photos"))
    assert "the embedded LLM does not know" in done.stderr
    assert "40 pairs, 1 refused (1 empty caption)" in done.stderr
    recipe = planned(tmp_path / "photos" / "recipe.toml")
    assert recipe.model.language == "HuggingFaceTB/SmolLM2-135M"


def test_models_that_are_given_are_named(tmp_path, siglip_folder, byte_level_llm):
    photos(tmp_path / "photos", 40)
    done = invoke("init", str(tmp_path / "photos"), "--vision", str(siglip_folder), "--language", str(byte_level_llm))
    assert done.exit_code == 0, done.exception
    recipe = planned(tmp_path / "photos" / "recipe.toml")
    assert (recipe.model.vision, recipe.model.language) == (str(siglip_folder), str(byte_level_llm))


def test_too_few_pairs_are_refused(tmp_path):
    photos(tmp_path / "photos", 1)
    assert "holds 1 usable pair; at least 4 are needed" in str(invoke("init", str(tmp_path / "photos")).exception)
    assert not (tmp_path / "photos" / "recipe.toml").exists()


def test_a_large_collection_is_divided_by_similar_images(monkeypatch, tmp_path, kept):
    monkeypatch.setattr("fedcmp.config.own_data.CLUSTERED", 50)
    invoke("init", str(kept / "llava"), "--out", str(tmp_path / "mine.toml"))
    assert planned(tmp_path / "mine.toml").scenario.kind == "image"
