"""Towers and LLMs out of LLaVA folders, in every layout that transformers writes or has written."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from fedcmp.errors import UserError
from fedcmp.model.export import export_llava
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vision import VisionEncoder
from tests.model.tiny_models import llm_folder, tower_folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A LLaVA folder, and the tower and LLM that it was made of."""
    place = tmp_path_factory.mktemp("parts")
    tower, llm = tower_folder(place / "tower", "clip"), llm_folder(place / "llm", "llama")
    encoder, language = VisionEncoder(str(tower)), LanguageModel(str(llm))
    return export_llava(place / "llava", encoder, Projector(32, 32, seed=4), language), encoder, language


def sharded(llava, folder):
    """In many files with an index, as a 7B checkpoint."""
    shutil.copytree(llava, folder)
    (folder / "model.safetensors").unlink()
    LlavaForConditionalGeneration.from_pretrained(llava).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    return folder


LAYOUTS = {
    "transformers 4, CLIP's own prefix": [(r"^vision_tower\.", "vision_tower.vision_model.")],
    "transformers 4.52": [
        (r"^language_model\.lm_head", "lm_head"),
        (r"^language_model\.model\.", "model.language_model."),
        (r"^(vision_tower|multi_modal_projector)", r"model.\1"),
    ],
}


@pytest.mark.parametrize("layout", ["as written", "sharded", *LAYOUTS])
def test_both_halves_are_those_the_folder_was_made_of(tmp_path, layout, parts):
    llava, encoder, language = parts
    folder = sharded(llava, tmp_path / "llava") if layout == "sharded" else shutil.copytree(llava, tmp_path / "llava")
    if layout in LAYOUTS:
        named = load_file(folder / "model.safetensors")
        for pattern, replacement in LAYOUTS[layout]:
            renamed = {re.sub(pattern, replacement, name): tensor for name, tensor in named.items()}
            assert renamed.keys() != named.keys()
            named = renamed
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    tower, llm = VisionEncoder(str(folder)), LanguageModel(str(folder))
    assert tower.fingerprint() == encoder.fingerprint()
    expected = language.model.state_dict()
    assert llm.model.state_dict().keys() == expected.keys()
    for name, tensor in llm.model.state_dict().items():  # tables of words have a row more, for <image>
        assert torch.equal(tensor[: len(expected[name])], expected[name]), name
    assert (llm.start_ids, llm.separator_ids, llm.end) == (language.start_ids, language.separator_ids, language.end)


def test_the_other_half_is_not_read(tmp_path, parts):
    """With the other half's shards damaged, each half loads."""
    folder = sharded(parts[0], tmp_path / "llava")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    vision = {file for name, file in index.items() if name.startswith("vision_tower")}
    language = {file for name, file in index.items() if name.startswith("language_model")}
    for mine, theirs, load in ((vision, language, VisionEncoder), (language, vision, LanguageModel)):
        other = shutil.copytree(folder, tmp_path / load.__name__)
        for file in theirs - mine:
            (other / file).write_bytes(b"damaged")
        load(str(other))
        (other / min(mine)).write_bytes(b"damaged")
        with pytest.raises(UserError, match=f"{min(mine)}: is not a readable safetensors file"):
            load(str(other))


def test_a_missing_weight_is_named(tmp_path, parts):
    folder = shutil.copytree(parts[0], tmp_path / "llava")
    named = load_file(folder / "model.safetensors")
    del named["language_model.model.norm.weight"]
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model\.language = .* lacks 1 weights of a LlamaForCausalLM: model\.norm"):
        LanguageModel(str(folder))
    VisionEncoder(str(folder))


@pytest.mark.parametrize(
    "index", ["{ half", "[]", '"text"', '{"weight_map": []}', '{"weight_map": {"lm_head.weight": 3}}']
)
def test_a_damaged_index_is_named(tmp_path, parts, index):
    folder = shutil.copytree(parts[0], tmp_path / "llava")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=r"index\.json: is not a readable index of shards"):
        LanguageModel(str(folder))


def test_llavas_original_layout_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava", "mm_vision_tower": "openai/clip"}')
    with pytest.raises(UserError, match=r"model\.language = .*LLaVA's original layout"):
        LanguageModel(str(tmp_path))
