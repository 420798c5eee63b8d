"""A run whose files were lost or damaged after its end: what is refused, and what is made again."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from fedcmp.locks import alone_in
from fedcmp.runs.folder import RunFolder
from tools.kills.damage import call
from tools.kills.runs import outcome

RECIPE = """
run = { name = "lost", methods = ["fedavg"], workers = 1 }
data = { num_pairs = 60 }
scenario = { kind = "iid", clients = 2 }
federation = { rounds = 2 }
training = { batch_size = 8 }
evaluation = { captions = 8, questions_per_kind = 1, samples = 1, sample_tokens = 2 }
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, world_cache):
    """The folder of a recipe and its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "recipe.toml").write_text(RECIPE)
    code, _, said = call(["train", "recipe.toml", "-o", f"run.cache={world_cache}"], folder)
    assert code == 0, said
    return folder


@pytest.fixture
def lost(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "lost")


def resumed(folder, cache):
    return call(["train", "recipe.toml", "--resume", "-o", f"run.cache={cache}"], folder)


def one_line(said):
    (line,) = [line for line in said.splitlines() if line.startswith("fedcmp: ")]
    assert "Traceback" not in said
    return line


def test_the_last_round_is_trained_again_and_exported_after_that(finished, lost, world_cache):
    last = lost / "runs" / "lost" / "checkpoints" / "round-0002"
    (last / "projector.safetensors").write_bytes(b"")
    for verb in (["export", "runs/lost", "exported"], ["evaluate", "runs/lost"]):
        code, _, said = call(verb, lost)
        assert code == 2
        assert "round-0002: damaged checkpoint (projector.safetensors: " in one_line(said)
    code, _, said = resumed(lost, world_cache)
    assert code == 2
    assert "remove this folder to resume from the one before" in one_line(said)
    shutil.rmtree(last)  # what the message says
    code, _, said = call(["export", "runs/lost", "exported"], lost)
    assert code == 2
    assert "the run came to the end of its 2 rounds, but its last checkpoint is that of round 1" in one_line(said)
    assert not (lost / "exported").exists()
    code, _, said = resumed(lost, world_cache)
    assert code == 0, said
    assert outcome(lost / "runs" / "lost") == outcome(finished / "runs" / "lost")
    call(["export", "runs/lost", "exported"], lost)
    assert "this model (round 2)" in (lost / "exported" / "README.md").read_text()


def test_an_unfinished_run_is_exported_as_of_its_last_checkpoint(lost, caplog):
    """As after a kill between the records of round 2 and its checkpoint."""
    run = lost / "runs" / "lost"
    first = load_file(run / "checkpoints" / "round-0001" / "projector.safetensors")
    shutil.rmtree(run / "checkpoints" / "round-0002")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"finished"' not in line))
    code, _, said = call(["export", "runs/lost", "exported"], lost)
    assert code == 0, said
    assert "runs/lost: is not finished: what is exported is of round 1 of 2" in caplog.text
    card = (lost / "exported" / "README.md").read_text()
    assert "this model (round 1)" in card
    assert "1 rounds of local training" in card
    model = load_file(lost / "exported" / "model.safetensors")
    (name,) = [name for name in model if name.endswith("multi_modal_projector.linear_1.weight")]
    assert model[name].equal(first["linear_1.weight"])


def test_what_was_prepared_is_made_again_and_what_was_trained_is_kept(finished, lost, world_cache):
    run = lost / "runs" / "lost"
    setup = run / "prepared" / "setup.json"
    tokens = run / "prepared" / "tokens-train.safetensors"
    flipped = bytearray(tokens.read_bytes())
    flipped[-1] ^= 1
    tokens.write_bytes(flipped)
    code, _, said = resumed(lost, world_cache)
    assert code == 2
    assert "tokens-train.safetensors: damaged or missing" in one_line(said)
    shutil.rmtree(run / "prepared")
    shutil.rmtree(run / "checkpoints" / "round-0002")
    code, _, said = resumed(lost, world_cache)
    assert code == 0, said
    assert outcome(run) == outcome(finished / "runs" / "lost")
    assert json.loads(setup.read_text()) == json.loads((finished / "runs/lost/prepared/setup.json").read_text())


def test_a_run_is_not_resumed_on_another_partition(lost, world_cache):
    run = lost / "runs" / "lost"
    shutil.rmtree(run / "prepared")
    text = (run / "recipe.toml").read_text()
    digest = text.partition('manifest = "')[2][:64]
    (run / "recipe.toml").write_text("".join(text.replace(digest, "0" * 64).splitlines(keepends=True)[:-1]))
    code, _, said = resumed(lost, world_cache)
    assert code == 2
    assert "recipe.toml: the data or their partition changed since the run began" in one_line(said)
    assert RunFolder(run).last().round == 2
    assert not (run / "prepared").exists()


def test_two_processes_in_one_folder_are_noticed_whatever_their_caches(lost, tmp_path):
    with alone_in(lost / "runs" / "lost", "taken"):
        code, _, said = resumed(lost, tmp_path / "another-cache")
    assert code == 2
    assert "another process is running this" in one_line(said)
