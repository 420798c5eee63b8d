"""A projector alone, in the namings of Hugging Face and of LLaVA."""

import io
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from fedcmp.errors import UserError
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import file_for, projector_file, read_projector, start_from


def written(folder, projector, naming):
    path = file_for(folder / "out", naming)
    path.parent.mkdir()
    path.write_bytes(projector_file(projector, naming))
    return path


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("naming", ["huggingface", "llava"])
def test_the_same_bits_come_back(tmp_path, naming, kind):
    projector = Projector(6, 8, kind=kind, seed=3)
    path = written(tmp_path, projector, naming)
    for place in (path, path.parent):
        back = start_from(Projector(6, 8, kind=kind), read_projector(place)).tensors()
        assert back.keys() == projector.tensors().keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in projector.tensors().items())


def test_llavas_own_loader_finds_its_names(tmp_path):
    """What LLaVA's initialize_vision_modules does with the file."""
    for kind, expected in (("mlp", {"0.weight", "0.bias", "2.weight", "2.bias"}), ("linear", {"weight", "bias"})):
        projector = Projector(6, 8, kind=kind, seed=3)
        (tmp_path / kind).mkdir()
        # a pickle, since that is what LLaVA reads; weights-only, as ours reads it
        weights = torch.load(written(tmp_path / kind, projector, "llava"), weights_only=True)
        assert type(weights) is dict
        found = {name.split("mm_projector.")[1]: tensor for name, tensor in weights.items() if "mm_projector" in name}
        layers = torch.nn.Linear(6, 8)
        if kind == "mlp":
            layers = torch.nn.Sequential(layers, torch.nn.GELU(), torch.nn.Linear(8, 8))
        assert found.keys() == expected
        layers.load_state_dict(found)
        features = torch.randn(2, 3, 6)
        torch.testing.assert_close(layers(features), projector(features))


def test_transformers_takes_the_file_as_it_is(tmp_path):
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small | {"hidden_size": 6}, image_size=8, patch_size=4)
    text = LlamaConfig(**small, vocab_size=9)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=8))
    projector = Projector(6, 8, seed=3)
    named = load_file(written(tmp_path, projector, "huggingface"))
    own = {name.removeprefix("multi_modal_projector."): tensor for name, tensor in named.items()}
    model.model.multi_modal_projector.load_state_dict(own)
    features = torch.randn(2, 3, 6)
    torch.testing.assert_close(model.model.multi_modal_projector(features), projector(features))


@pytest.mark.parametrize("prefix", ["", "model.multi_modal_projector.", "base_model.model.multi_modal_projector."])
def test_a_runs_checkpoint_and_other_prefixes_are_read(tmp_path, prefix):
    projector = Projector(6, 8, seed=3)
    named = {f"{prefix}{name}": tensor.half() for name, tensor in projector.tensors().items()}
    save_file(named | {"language_model.norm.weight": torch.ones(2)}, tmp_path / "p.safetensors")
    back = start_from(Projector(6, 8), read_projector(tmp_path / "p.safetensors")).tensors()
    assert all(torch.equal(back[name], tensor.half().float()) for name, tensor in projector.tensors().items())


def test_what_does_not_fit_is_named(tmp_path):
    path = written(tmp_path, Projector(6, 8), "huggingface")
    with pytest.raises(
        UserError, match=r"linear_1.weight is \(8, 6\), but .* need \(8, 7\); it was trained for another"
    ):
        start_from(Projector(7, 8), read_projector(path))
    with pytest.raises(UserError, match=r"of kind 'mlp', model.projector is 'linear'"):
        start_from(Projector(6, 8, kind="linear"), read_projector(path))
    named = load_file(path)
    lacking = {name: tensor for name, tensor in named.items() if not name.endswith("linear_2.bias")}
    spoilt = named | {"multi_modal_projector.linear_1.bias": torch.full((8,), float("nan"))}
    deeper = named | {"multi_modal_projector.linear_3.weight": torch.ones(8, 8)}
    for content, message in (
        (lacking, "lacks linear_2.bias"),
        (spoilt, "linear_1.bias holds NaN"),
        (deeper, "has linear_3.weight, which"),
    ):
        save_file(content, path)
        with pytest.raises(UserError, match=rf"^model\.projector_from = .*{message}"):
            start_from(Projector(6, 8), read_projector(path))
    save_file(named, path, metadata={"projector_hidden_act": "relu"})
    with pytest.raises(UserError, match="has relu between its layers"):
        start_from(Projector(6, 8), read_projector(path))


def test_a_deeper_projector_of_llavas_is_named(tmp_path):
    layers = {f"model.mm_projector.{number}.weight": torch.ones(4, 4) for number in (0, 2, 4)}
    layers |= {f"model.mm_projector.{number}.bias": torch.ones(4) for number in (0, 2, 4)}
    torch.save(layers, tmp_path / "mm_projector.bin")
    with pytest.raises(UserError, match=r"has linear_3\.bias"):
        start_from(Projector(4, 4), read_projector(tmp_path / "mm_projector.bin"))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def test_a_pickle_of_more_than_tensors_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mm_projector.bin"
    buffer = io.BytesIO()
    torch.save({"model.mm_projector.weight": Malicious()}, buffer)
    legacy = io.BytesIO()
    torch.save({"model.mm_projector.weight": torch.ones(4, 4)}, legacy, _use_new_zipfile_serialization=False)
    halves = [legacy.getvalue()[:length] for length in range(40, 400, 9)]  # each breaks the reader in a way of its own
    for content in (buffer.getvalue(), b"", b"no pickle at all", *halves):
        path.write_bytes(content)
        with pytest.raises(UserError, match="weights-only loading accepts") as caught:
            read_projector(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "pickle-was-run").exists()
    for content in ([torch.ones(2)], {0: torch.ones(2)}, {"state_dict": {"model.mm_projector.weight": torch.ones(2)}}):
        torch.save(content, path)
        with pytest.raises(UserError, match="holds no dictionary of tensors"):
            read_projector(path)
    torch.save({"lm_head.weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="holds no projector"):
        read_projector(path)
    with pytest.raises(UserError, match="no such file or folder"):
        read_projector(tmp_path / "none.safetensors")


@pytest.mark.parametrize("weight", [torch.ones(4, 4, dtype=torch.int64), torch.ones(4, 4).to_sparse()])
def test_tensors_that_are_no_plain_numbers_are_named(tmp_path, weight):
    path = tmp_path / "mm_projector.bin"
    torch.save({"model.mm_projector.weight": weight, "model.mm_projector.bias": torch.ones(4)}, path)
    with pytest.raises(UserError, match=r"linear_1\.weight is no plain tensor of floating"):
        start_from(Projector(4, 4, kind="linear"), read_projector(path))


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json"])
def test_a_whole_checkpoint_goes_before_a_projector_beside_it(tmp_path, weights):
    """In one file or sharded: mm_projector.bin beside it is what it was made of, or what it was before tuning."""
    whole, alone = Projector(6, 8, seed=3), Projector(6, 8, seed=4)
    (tmp_path / "mm_projector.bin").write_bytes(projector_file(alone, "llava"))
    shard = weights.replace(".index.json", "") if "index" not in weights else "model-00001-of-00001.safetensors"
    (tmp_path / shard).write_bytes(projector_file(whole, "huggingface"))
    if "index" in weights:
        listed = dict.fromkeys(load_file(tmp_path / shard), shard)
        (tmp_path / weights).write_text(json.dumps({"weight_map": listed}))
    found = start_from(Projector(6, 8), read_projector(tmp_path)).tensors()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.tensors().items())


def test_where_the_file_goes(tmp_path):
    assert file_for(tmp_path / "a", "llava") == tmp_path / "a" / "mm_projector.bin"
    assert file_for(tmp_path / "a.safetensors", "huggingface") == tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"--naming llava writes \.bin files"):
        file_for(tmp_path / "a.safetensors", "llava")
    (tmp_path / "b.bin").write_bytes(b"")
    with pytest.raises(UserError, match="is there already"):
        file_for(tmp_path / "b.bin", "llava")
