"""Export beside an existing LLaVA: one shard anew, the rest linked, and the same model as a whole export."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from fedcmp.model.export import export_llava
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.rewriting import base_folder, rewrite_projector
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from tests.model.test_architectures import PROMPTS, our_tokens, their_tokens
from tests.model.test_llava_folder import sharded
from tests.model.tiny_models import llm_folder, tower_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A LLaVA in many files, with what a hub folder holds besides."""
    place = tmp_path_factory.mktemp("base")
    tower, llm = tower_folder(place / "tower", "clip"), llm_folder(place / "llm", "qwen2")
    encoder, language = VisionEncoder(str(tower)), LanguageModel(str(llm))
    whole = export_llava(place / "whole", encoder, Projector(32, 32, seed=4), language)
    folder = sharded(whole, place / "llava")
    for name in ("README.md", "LICENSE.txt", "pytorch_model-00001-of-00002.bin", "chat_template.json"):
        (folder / name).write_text("the base's")
    return folder


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_one_shard_is_written_anew(tmp_path, base, prompt):
    encoder, language = VisionEncoder(str(base)), LanguageModel(str(base), prompt=prompt)
    projector = Projector(32, 32, seed=9)
    for path in base.iterdir():
        path.chmod(0o640)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    assert base_folder(encoder, projector, language) == base
    mask = os.umask(0o027)
    folder = rewrite_projector(tmp_path / "out", base, encoder, projector, language, dtype=torch.float32, card="mine")
    os.umask(mask)
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before  # a link must not be written through
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    holders = {file for name, file in index["weight_map"].items() if "multi_modal_projector" in name}
    shards = sorted(path.name for path in base.glob("model-*.safetensors"))
    linked = {name for name in shards if (folder / name).samefile(base / name)}
    assert linked == set(shards) - holders
    assert 0 < len(holders) < len(shards)
    for name in holders:
        old, new = load_file(base / name), load_file(folder / name)
        assert old.keys() == new.keys()
        assert all(torch.equal(new[key], old[key]) for key in old if "multi_modal_projector" not in key)
    sizes = sum(tensor.nbytes for name in shards for tensor in load_file(folder / name).values())
    assert index["metadata"]["total_size"] == sizes
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    names = {path.name for path in folder.iterdir()}
    assert "LICENSE.txt" in names
    assert not names & {"pytorch_model-00001-of-00002.bin", "chat_template.json"}
    assert (folder / "README.md").read_text() == "mine"
    vlm = VLM(language, projector, encoder)
    assert our_tokens(vlm, PROMPTS, 8) == their_tokens(folder, language, PROMPTS, 8)


def test_a_smaller_dtype_changes_the_recorded_size(tmp_path, base):
    encoder, language = VisionEncoder(str(base)), LanguageModel(str(base))
    folder = rewrite_projector(tmp_path / "out", base, encoder, Projector(32, 32), language, dtype=torch.bfloat16)
    sizes = [json.loads((p / "model.safetensors.index.json").read_text())["metadata"] for p in (base, folder)]
    assert sizes[0]["total_size"] - sizes[1]["total_size"] == 2 * (2 * 32 * 32 + 2 * 32)
    LlavaForConditionalGeneration.from_pretrained(folder)


def test_what_the_bases_config_does_not_say_is_exported_whole(tmp_path, base):
    encoder, language = VisionEncoder(str(base)), LanguageModel(str(base))
    assert base_folder(VisionEncoder(str(base), layer=-1), Projector(32, 32), language) is None
    assert base_folder(VisionEncoder(str(base), strategy="full"), Projector(32, 32), language) is None
    assert base_folder(encoder, Projector(32, 32, kind="linear"), language) is None
    bare = shutil.copytree(base, tmp_path / "bare")
    index = json.loads((bare / "model.safetensors.index.json").read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if "projector" not in name}
    (bare / "model.safetensors.index.json").write_text(json.dumps(index))
    halves = VisionEncoder(str(bare)), Projector(32, 32), LanguageModel(str(bare))
    assert base_folder(*halves) is None  # a tower and an LLM in one folder, without a projector to replace
    other = shutil.copytree(base, tmp_path / "other")
    assert base_folder(VisionEncoder(str(other)), Projector(32, 32), language) is None
    assert base_folder(VisionEncoder("world"), Projector(32, 32), language) is None
