"""Folders of models with files missing, torn or of another kind: one line, before anything is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from fedcmp.errors import UserError
from fedcmp.model.folders import INDEX, check_weights, resolve
from fedcmp.model.locations import load, load_model

KEY = "model.language"


@pytest.fixture
def whole(tmp_path, byte_level_llm):
    """A model in two shards, as the hub has large ones."""
    folder = shutil.copytree(byte_level_llm, tmp_path / "llm")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    listed = {}
    for number, part in ((1, names[:5]), (2, names[5:])):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        listed |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return folder


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def refused(folder):
    with pytest.raises(UserError) as caught:
        resolve(str(folder), "language", KEY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_folder_is_accepted_and_loads(whole):
    assert resolve(str(whole), "language", KEY) == str(whole)
    check_weights(whole, KEY)
    load_model(AutoModelForCausalLM, str(whole), KEY, dtype=torch.float32)


def test_a_shard_that_the_index_names_is_missing(whole):
    (whole / SECOND).unlink()
    assert f"{whole}: {SECOND} of 2 shards missing, which {INDEX} names" in refused(whole)
    (whole / FIRST).unlink()
    assert f"{FIRST} and 1 more of 2 shards missing" in refused(whole)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: b"", "is empty; get the file again"),
        (lambda content: content[:-1], "where its header says"),
        (lambda content: content + b"x", "where its header says"),
        (lambda content: content[:50], "is not a readable safetensors file"),
        (lambda content: content[:4], "is not a readable safetensors file"),
        (lambda content: b"\xff" * 8 + content[8:], "is not a readable safetensors file"),
        (lambda content: content[:8] + b"x" + content[9:], "is not a readable safetensors file"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run `git lfs pull`"),
    ],
    ids=["empty", "cut", "longer", "header cut", "tiny", "huge header", "no JSON", "pointer"],
)
def test_a_torn_shard_is_named(whole, damage, told):
    path = whole / FIRST
    path.write_bytes(damage(path.read_bytes()))
    assert refused(whole).removeprefix(f"{KEY}: ").startswith(f"{path}: ")
    assert told in refused(whole)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds a list instead of an object"),
        ("{}", "names no shards (weight_map)"),
        ('{"weight_map": {"a": 3}}', "names no shards (weight_map)"),
        ('{"weight_map": {"a": "../llm/model-00001-of-00002.safetensors"}}', "which is not in its folder"),
        ('{"weight_map": {"a.weight": "model-00001-of-00002.safetensors"}}', "lacks a.weight, which"),
    ],
)
def test_a_damaged_index_is_named(whole, content, told):
    (whole / INDEX).write_text(content)
    assert told in refused(whole)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nothing", "is not valid JSON"),
        ("[1]", "holds a list instead of an object"),
        ('"text"', "holds a str instead of an object"),
        ("[" * 100_000, "is not valid JSON"),
        ("version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        ('{"text_config": {"_attn_implementation": "someone/kernels"}}', "program code from 'someone/kernels'"),
        ('{"attn_implementation": {"": "someone/kernels@v1"}}', "which is never loaded"),
    ],
)
def test_a_damaged_config_is_named(whole, content, told):
    (whole / "config.json").write_text(content)
    assert told in refused(whole)


def test_a_config_with_a_mark_in_front_and_another_attention_of_its_own_is_fine(whole):
    content = json.loads((whole / "config.json").read_text()) | {"attn_implementation": "sdpa"}
    (whole / "config.json").write_text("\ufeff" + json.dumps(content))
    assert resolve(str(whole), "language", KEY)


def test_a_folder_without_weights_and_a_file_are_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path), "language", KEY) == str(tmp_path)  # enough for a plan
    with pytest.raises(UserError, match="holds no weights"):
        check_weights(tmp_path, KEY)
    assert "is a file; give the folder" in refused(tmp_path / "config.json")


OWN_CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_models_own_code_never_runs_and_nobody_is_asked(tmp_path):
    """In a process of its own, with a standard input that would say yes."""
    (tmp_path / "modeling_own.py").write_text(OWN_CODE)
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto_map}))
    code = (
        "import sys\nfrom fedcmp.errors import UserError\nfrom fedcmp.model.text_format import TextFormat\n"
        "try:\n    TextFormat(sys.argv[1])\nexcept UserError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], input="y\ny\n", capture_output=True, text=True, timeout=120
    )
    assert "needs program code of its own (auto_map in its files), and a model's own code is never run" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_known_architecture_is_left_alone(whole):
    (whole / "modeling_own.py").write_text(OWN_CODE)
    content = json.loads((whole / "config.json").read_text())
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    (whole / "config.json").write_text(json.dumps(content | {"auto_map": auto_map}))
    assert load(AutoConfig, str(whole), KEY).model_type == "gpt_neox"
    load_model(AutoModelForCausalLM, str(whole), KEY, dtype=torch.float32)
    assert not (whole / "ran").exists()
