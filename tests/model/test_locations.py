import contextlib
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fedcmp.errors import UserError
from fedcmp.model import hub
from fedcmp.model.locations import device_of, dtype_of, fingerprint, load, load_model, resolve

KEY = "model.language"


@pytest.fixture
def llm(tmp_path, byte_level_llm):
    """A copy of the tiny GPT-NeoX that a test may damage."""
    return shutil.copytree(byte_level_llm, tmp_path / "llm")


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_world_folder_and_hub_names(llm):
    assert (AutoConfig.from_pretrained(resolve("world", "vision", KEY))).model_type == "clip"
    assert (AutoConfig.from_pretrained(resolve("world", "language", KEY))).model_type == "llama"
    assert resolve(str(llm), "language", KEY) == str(llm)
    assert resolve("owner/name", "language", KEY) == "owner/name"


@pytest.mark.parametrize("name", ["./none", "/none/here", "a/b/c", "plain", "~/none-here"])
def test_a_path_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=f"model.language = '{name}': no such folder"):
        resolve(name, "language", KEY)


@pytest.mark.parametrize("which", ["world-clip", "world-llama", "siglip", "neox"])
def test_whole_checkpoints_load(which, siglip_folder, byte_level_llm):
    """The world's Llama ties lm_head to its embeddings, and its file lacks it; SigLIP and CLIP have position_ids."""
    name, factory = {
        "world-clip": (resolve("world", "vision", KEY), AutoModel),
        "world-llama": (resolve("world", "language", KEY), AutoModelForCausalLM),
        "siglip": (str(siglip_folder), AutoModel),
        "neox": (str(byte_level_llm), AutoModelForCausalLM),
    }[which]
    model = load_model(factory, name, KEY, dtype=torch.float32)
    expected = factory.from_pretrained(name, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())


def test_threads_that_load_models_leave_transformers_as_it_was():
    """Without a lock, one puts back the method that another had put there: later models have no tied weights."""
    ties, place = PreTrainedModel.tie_weights, resolve("world", "language", KEY)
    together = threading.Barrier(2)

    class Factory:
        """Meets the other thread inside from_pretrained if the other can get there."""

        @staticmethod
        def from_pretrained(name, **options):
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(timeout=0.2)
            return AutoModelForCausalLM.from_pretrained(name, **options)

    loaded = []
    threads = [
        threading.Thread(target=lambda: loaded.append(load_model(Factory, place, KEY, dtype=torch.float32)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together.broken  # nobody else was inside
    assert PreTrainedModel.tie_weights is ties
    assert len(loaded) == 2
    assert all(model.lm_head.weight is model.model.embed_tokens.weight for model in loaded)


def test_missing_weights_are_refused(llm):
    gone = [f"gpt_neox.layers.{layer}.mlp.dense_h_to_4h.weight" for layer in (0, 1)]
    change_weights(llm, lambda weights: [weights.pop(name) for name in gone])
    with pytest.raises(UserError, match=r"lacks 2 weights of a GPTNeoXForCausalLM: gpt_neox\.layers\.0\.mlp") as caught:
        load_model(AutoModelForCausalLM, str(llm), KEY, dtype=torch.float32)
    assert str(caught.value).startswith(f"model.language = '{llm}'")


def test_weights_of_another_shape_are_refused(llm):
    change_weights(llm, lambda weights: weights.update({"gpt_neox.final_layer_norm.bias": torch.zeros(7)}))
    with pytest.raises(UserError, match=r"first gpt_neox\.final_layer_norm\.bias: \(7,\) in the checkpoint, \(48,\)"):
        load_model(AutoModelForCausalLM, str(llm), KEY, dtype=torch.float32)


def test_a_truncated_file_is_told_in_one_line(llm):
    content = (llm / "model.safetensors").read_bytes()
    (llm / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model\.language = .*cannot load it \(.*incomplete") as caught:
        load_model(AutoModelForCausalLM, str(llm), KEY, dtype=torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError, ImportError, OSError, ValueError, KeyError, Exception])
def test_whatever_transformers_raises_is_told_in_one_line(error, monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda name: None)

    class Factory:
        @staticmethod
        def from_pretrained(name, **options):
            assert options == {"trust_remote_code": False}
            raise error("\nneeds sentencepiece\nand more")

    with pytest.raises(UserError, match=r"k = 'owner/name': transformers cannot load it \(.*needs sentencepiece"):
        load(Factory, "owner/name", "k")


def test_a_tokenizer_comes_through_load(llm):
    assert load(AutoTokenizer, str(llm), KEY).eos_token == "<|endoftext|>"


def test_devices_and_dtypes():
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == torch.device("cpu")
    assert dtype_of("bfloat16") is torch.bfloat16
    with pytest.raises(UserError, match=r"model\.device = 'toaster': not usable here"):
        device_of("toaster")


def test_fingerprint_sees_values_names_shapes_and_descriptions():
    state = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = fingerprint(dict(reversed(list(state.items()))), {"x": 1})
    assert same == fingerprint(state, {"x": 1})
    changed = [state | {"a": torch.arange(4.0) + 1e-6}, state | {"a": torch.arange(4.0).view(2, 2)}, {"a": state["a"]}]
    assert same not in {fingerprint(other, {"x": 1}) for other in changed} | {fingerprint(state, {"x": 2})}
