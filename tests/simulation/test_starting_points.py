"""Runs that start from what is there: a LLaVA folder with its projector, an LLM's own chat; and what comes out."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fedcmp.config import load_recipe
from fedcmp.errors import UserError
from fedcmp.finished.export import export_projector, export_run
from fedcmp.model.export import export_llava
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import initial_trainable
from fedcmp.simulation.train import train
from fedcmp.world.export import export_world
from tests.model.test_architectures import PROMPTS, our_tokens, their_tokens
from tests.model.test_llava_folder import sharded
from tests.model.tiny_models import llm_folder, tower_folder
from tests.simulation.runner import fedcmp, metrics

RECIPE = """
[run]
name = "chat"
methods = ["fedavg"]
workers = 1
[model]
vision = "llava"
language = "llava"
vision_layer = [-2, -1]
prompt = "chat"
instruction = "What is it?"
projector_from = "{start}"
[data]
format = "llava"
pairs = "scenes/pairs.json"
images = "scenes/images"
[scenario]
clients = 2
[federation]
rounds = 2
[training]
batch_size = 8
[evaluation]
questions = "scenes/questions.jsonl"
questions_per_kind = 2
samples = 2
sample_tokens = 5
"""


@pytest.fixture
def place(tmp_path):
    tower, llm = tower_folder(tmp_path / "tower", "clip"), llm_folder(tmp_path / "llm", "qwen2")
    encoder, language = VisionEncoder(str(tower), layer=[-2, -1]), LanguageModel(str(llm), prompt="chat")
    whole = export_llava(tmp_path / "whole", encoder, Projector(64, 32, seed=4), language)
    sharded(whole, tmp_path / "llava")
    export_world(tmp_path / "scenes", split="train", count=60, format="llava", picture="png")
    (tmp_path / "chat.toml").write_text(RECIPE.format(start="llava"))
    return tmp_path


@pytest.mark.slow
def test_a_run_from_a_llava_folder_in_the_llms_chat(place, world_cache, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    with pytest.raises(UserError, match=r"model\.projector_from = .*linear_1\.weight is \(32, 64\)"):
        train(load_recipe(place / "chat.toml", ["model.vision_layer=-2"]), progress=lambda _what, _done, _total: None)
    fedcmp(place, world_cache, "train", "chat.toml")
    run = place / "runs" / "chat"
    lines = metrics(run)
    initial = next(line for line in lines if line.get("model") == "initial")
    trained = [line for line in lines if line.get("model") == "global"][-1]
    assert trained["caption_loss"] < initial["caption_loss"]
    assert trained["question_accuracy"] is not None
    assert all("captions" in entry for entry in json.loads((run / "samples.json").read_text()))

    folder = export_run(run, place / "out")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert sum((folder / name).samefile(place / "llava" / name) for name in shards) >= len(shards) - 2
    assert "What is it?" in (folder / "README.md").read_text()
    language = LanguageModel(str(place / "llm"), prompt="chat", instruction="What is it?")
    encoder = VisionEncoder(str(place / "tower"), layer=[-2, -1])
    projector = Projector(64, 32)
    checkpoint = sorted((run / "checkpoints").glob("round-*"))[-1] / "projector.safetensors"
    projector.load_state_dict(load_file(checkpoint))
    assert our_tokens(VLM(language, projector, encoder), PROMPTS, 6) == their_tokens(folder, language, PROMPTS, 6)

    fedcmp(place, world_cache, "export", run, "alone", "--projector-only", "--naming", "llava")
    # a pickle, since that is what LLaVA reads; weights-only, as ours reads it
    weights = torch.load(place / "alone" / "mm_projector.bin", weights_only=True)
    assert torch.equal(weights["model.mm_projector.2.bias"], projector.tensors()["linear_2.bias"])
    export_projector(run, place / "p.safetensors")

    # a run from any of these files starts where this one ended
    for start in ("alone/mm_projector.bin", "p.safetensors", "out", checkpoint):
        recipe = load_recipe(place / "chat.toml", [f"model.projector_from='{start}'"])
        begun = initial_trainable(recipe, 64, 32).tensors()
        assert all(torch.equal(begun[name], tensor) for name, tensor in projector.tensors().items())
