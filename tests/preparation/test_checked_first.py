"""Whatever does not fit together is found before an image is encoded."""

import json

import pytest
from PIL import Image

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.preparation import loading, prepare
from tests.model.tiny_models import llm_folder, tower_folder


@pytest.fixture
def checked(tmp_path, monkeypatch, world_cache):
    """(changes of a recipe's sections) -> what `prepare` refuses before features; they are too late."""

    def too_late(*_, **__):
        raise AssertionError("features are computed already")

    monkeypatch.setattr(prepare, "frozen_features", too_late)
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))

    def check(**sections):
        content = {"data": {"num_pairs": 40}, "scenario": {"clients": 2}} | sections
        with pytest.raises(UserError) as caught:
            prepare.prepare(parse_recipe(content, "test"), tmp_path / "prepared", lambda *_: None)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "prepared").exists()
        return str(caught.value)

    return check


def test_words_that_the_llm_does_not_know(tmp_path, checked):
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    records = [{"image": "a.png", "caption": "Röntgenaufnahme des Thorax"}] * 8
    (tmp_path / "pairs.json").write_text(json.dumps(records))
    told = checked(data={"format": "llava", "pairs": str(tmp_path / "pairs.json")})
    assert "of the captions' tokens are unknown to its tokenizer" in told


def test_an_encoder_without_a_text_half_where_pairs_are_compared(tmp_path, checked):
    folder = tower_folder(tmp_path / "tower", "clip-vision")
    told = checked(model={"vision": str(folder)}, scenario={"clients": 2, "kind": "text"})
    assert "has no text half, so pairs cannot be compared" in told


def test_numbers_that_overflow_in_float16(tmp_path, checked, monkeypatch):
    folder = llm_folder(tmp_path / "llm", "phi3")
    real = loading.load_language

    def loud(recipe, **named) -> LanguageModel:
        language = real(recipe, **named)
        language.model.model.layers[0].mlp.gate_up_proj.weight.data.fill_(60000.0)
        return language

    monkeypatch.setattr(loading, "load_language", loud)
    told = checked(model={"language": str(folder), "dtype": "float16"})
    assert told.startswith("model.dtype = 'float16': numbers of model.language = ")


def test_the_llms_weights_are_opened(tmp_path, checked):
    folder = llm_folder(tmp_path / "llm", "phi3")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    told = checked(model={"language": str(folder)})
    assert "the checkpoint lacks" in told
