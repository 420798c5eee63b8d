"""Plans against real runs, against the machine, and for the recipes of the real models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from fedcmp.cli.main import app
from fedcmp.config import Recipe, load_recipe
from fedcmp.config.methods import NOT_FEDERATED, available_methods
from fedcmp.errors import UserError
from fedcmp.federation.rounds import Events
from fedcmp.model.locations import resolve
from fedcmp.model.trainable import trainable_shapes
from fedcmp.planning import preflight
from fedcmp.planning.demand import Ranks, Sizes, demand_of, kept_replies_bytes
from fedcmp.planning.machine import Machine
from fedcmp.planning.needs import all_bytes
from fedcmp.planning.preflight import plan_run, show, sizes_of
from fedcmp.simulation.train import train
from fedcmp.world.export import export_world
from tests.planning.plans import PLENTY, has, silent, world
from tests.simulation.runner import command, environment, fedcmp, metrics, recipe

RECIPES = Path(__file__).parents[2] / "recipes"
KINDS = ["fedavg", "fisher", "scaffold", "shared-basis"]  # one of each kind of message


OPTIONS = ["federation.rounds=2", "data.num_pairs=60", "evaluation.captions=8", "evaluation.questions_per_kind=0"]


def short_run(folder: Path, methods: list[str]) -> tuple[Recipe, str]:
    """Two rounds with an empty cache; the recipe and what was said on stderr."""
    path = recipe(folder, methods=methods)
    done = fedcmp(folder, folder / "cache", "train", path, *(part for option in OPTIONS for part in ("-o", option)))
    return load_recipe(path, OPTIONS), done.stderr


def assert_sent_as_planned(folder: Path, loaded: Recipe) -> None:
    planned = demand_of(loaded, sizes_of(loaded), on_gpu=False).wire
    for method in loaded.run.methods:
        rounds = [line for line in metrics(folder / "runs" / "small" / method) if line["kind"] == "round"]
        assert rounds[-1]["bytes_sent"] == planned[method], method


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    return folder, *short_run(folder, KINDS)


def test_bytes_sent_are_as_planned(short):
    folder, loaded, _ = short
    assert_sent_as_planned(folder, loaded)


@pytest.mark.slow
def test_bytes_sent_are_as_planned_for_every_method(tmp_path):
    federated = [method for method in available_methods() if method not in NOT_FEDERATED]
    assert len(federated) > 15
    loaded, _ = short_run(tmp_path, federated)
    assert_sent_as_planned(tmp_path, loaded)


def test_the_feature_store_is_as_large_as_planned(short):
    """But for the shards' headers."""
    folder, loaded, _ = short
    planned = demand_of(loaded, sizes_of(loaded), on_gpu=False).store_whole
    shards = list((folder / "cache" / "features").glob("*/shard-*.safetensors"))
    written = sum(shard.stat().st_size for shard in shards)
    headers = sum(8 + int.from_bytes(shard.read_bytes()[:8], "little") for shard in shards)
    assert len(shards) == 2  # of the training pairs and of the held-out ones
    assert written - headers == planned


def test_checkpoints_stay_within_the_plan(short):
    folder, loaded, _ = short
    for method in KINDS:
        alone = loaded.model_copy(update={"run": loaded.run.model_copy(update={"methods": [method]})})
        planned = demand_of(alone, sizes_of(alone), on_gpu=False).run
        files = (folder / "runs" / "small" / method / "checkpoints").glob("*/*")
        written = sum(path.stat().st_size for path in files)
        assert written < planned, method
    # of shared-basis, the last: two of three checkpoints, no best round apart from them; replies are gone at the end
    sizes = sizes_of(alone)
    shapes = trainable_shapes(alone.model.projector, sizes.vision.width, sizes.language.width)
    replies = kept_replies_bytes(alone, method, alone.chosen(method), sizes, shapes)
    assert written > 0.45 * (planned - replies)


def test_a_run_says_what_it_will_need_before_it_starts(short):
    said = short[2].splitlines()
    first = [line.partition(":")[0] for line in said[1:5]]  # behind what is run
    assert first == ["memory", "frozen features", "runs/small", "sent in a round, all clients, both ways"]


def test_features_that_are_there_are_not_needed_again(short, monkeypatch):
    folder, loaded, _ = short
    monkeypatch.setenv("FEDCMP_CACHE", str(folder / "cache"))
    has(monkeypatch, Machine(10**12, None, cache_disk=100, run_disk=10**12))
    plan = plan_run(loaded)
    assert "there already" in plan.lines[1]
    assert plan.misfits == []
    monkeypatch.setenv("FEDCMP_CACHE", str(folder / "another"))
    assert "data.feature_store = false" in plan_run(loaded).misfits[0]


def test_features_are_looked_for_collection_by_collection(tmp_path, monkeypatch, capsys):
    """Organisations have a store each; a bad picture has no features, and is no reason to say that some are missing."""
    for name, count in (("a", 30), ("b", 12)):
        export_world(tmp_path / name, split="train", count=count)
    broken = next((tmp_path / "a" / "images").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:40])
    clients = [{"name": n, "pairs": f"{tmp_path / n}/pairs.json", "images": f"{tmp_path / n}/images"} for n in "ab"]
    content = {
        "run": {
            "methods": ["fedavg"],
            "workers": 1,
            "folder": str(tmp_path / "runs"),
            "cache": str(tmp_path / "cache"),
        },
        "data": {"format": "llava", "clients": clients, "max_bad_fraction": 0.2},
        "scenario": {"kind": "given"},
        "federation": {"rounds": 1},
        "evaluation": {"questions_per_kind": 0, "samples": 0},
    }
    loaded = Recipe.model_validate(content)
    assert "there already" not in plan_run(loaded).lines[1]
    train(loaded, progress=silent)
    assert "there already" in plan_run(loaded).lines[1]
    index = next((tmp_path / "cache" / "features").glob("*/index.json"))
    other = index.parent.with_name("another")
    shutil.copytree(index.parent, other)
    (other / "index.json").unlink()  # begun, and perhaps this run's
    index.write_text("{")
    assert "there already" in plan_run(loaded).lines[1]
    wider = {"feature_dtype": "float32"}
    assert "there already" not in plan_run(Recipe.model_validate(content | {"data": content["data"] | wider})).lines[1]
    half = plan_run(Recipe.model_validate(content | {"data": content["data"] | {"feature_dtype": "bfloat16"}}))
    assert "still to be written" not in half.lines[1]  # nothing of that form is there


@pytest.fixture(scope="module")
def middling(tmp_path_factory):
    """A Llama of 19 million parameters that reads the world's words, so that a run's memory is not all libraries."""
    folder = tmp_path_factory.mktemp("middling")
    where = Path(resolve("world", "language", ""))
    for file in where.iterdir():
        if file.name.startswith(("tokenizer", "special")):
            (folder / file.name).write_bytes(file.read_bytes())
    words = json.loads((where / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=5, num_attention_heads=8, vocab_size=words
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""  # a process of its own: until a command is loaded, its process counts as being as large as the one that starts it


@pytest.mark.slow
@pytest.mark.parametrize("features", ["true", "false"])
def test_a_runs_peak_memory_is_at_most_the_plan_and_at_least_half_of_it(tmp_path, world_cache, middling, features):
    path = recipe(tmp_path, methods=["fedavg"])
    options = [f"model.language={middling}", "data.num_pairs=64", "scenario.clients=1", "federation.rounds=1"]
    options += ["training.batch_size=32", "evaluation.captions=32", "evaluation.questions_per_kind=0"]
    options += ["data.max_caption_tokens=24", f"data.feature_store={features}", f"run.cache={world_cache}"]
    loaded = load_recipe(path, options)
    planned = demand_of(loaded, sizes_of(loaded), on_gpu=False)
    arguments = [part for option in options for part in ("-o", option)]
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, *command("train", path, *arguments)],
        cwd=tmp_path,
        env=environment(tmp_path, world_cache),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    peak = int(process.stdout.splitlines()[-1]) * (1 if sys.platform == "darwin" else 1024)
    print(f"peak {show(peak)}, planned {show(planned.memory)}, of it a batch {show(planned.batch)}")
    assert planned.batch > 0.15 * planned.memory  # else the test says nothing about it
    assert 0.5 * planned.memory < peak <= planned.memory


def test_more_of_what_costs_needs_more():
    sizes = sizes_of(world())
    least = demand_of(world(run={"workers": 1}), sizes, on_gpu=False)
    for changed in (
        {"run": {"workers": 4}},
        {"run": {"workers": 1, "cohort": 3}},
        {"run": {"workers": 1}, "training": {"batch_size": 512}},
        {"run": {"workers": 1, "methods": ["fedavg", "shared-basis", "moon"]}},
    ):
        assert demand_of(world(**changed), sizes, on_gpu=False).memory > least.memory, changed
    narrow = world(model={"dtype": "bfloat16"}, data={"num_pairs": 240, "feature_dtype": "float32"})
    assert demand_of(narrow, sizes, on_gpu=False).frozen < least.frozen
    assert demand_of(narrow, sizes, on_gpu=False).store > 1.9 * least.store


def test_ranks_have_a_model_each_and_share_the_batch(monkeypatch, tmp_path):
    """run.workers does not count; on GPUs each rank has its own, on a CPU this machine holds all that run here."""
    sizes, two = sizes_of(world()), world(run={"workers": 2}, training={"batch_size": 512})
    one, four, far = (
        demand_of(two, sizes, on_gpu=False, ranks=ranks) for ranks in (Ranks(), Ranks(4, here=4), Ranks(4, here=1))
    )
    assert four.batch < 0.3 * one.batch
    assert four.batch == far.batch
    assert four.memory - far.memory == 3 * four.worker
    on_gpus = demand_of(two, sizes, on_gpu=True, ranks=Ranks(4, here=4))
    assert on_gpus.gpu < demand_of(two, sizes, on_gpu=True).gpu / 2

    variables = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "9"}
    path, here = recipe(tmp_path, methods=["fedavg"]), ["-o", f"run.cache={tmp_path}", "-o", f"run.folder={tmp_path}"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(app, ["train", str(path), "--plan", *here])
    assert "(2 processes on this machine, each with frozen parts" in said.output
    monkeypatch.setenv("RANK", "1")
    assert CliRunner().invoke(app, ["train", str(path), "--plan", *here]).output == ""


def test_options_of_the_llm_count():
    sizes = sizes_of(world())
    small = {"captions": 1, "questions_per_kind": 0}
    plain, rows, chat, asked = (
        demand_of(world(model=model, evaluation=small | judged), sizes, on_gpu=False).batch
        for model, judged in (
            ({}, {}),
            ({"logit_rows": 8}, {}),
            ({"prompt": "chat"}, {}),
            ({"logit_rows": 8}, {"questions_per_kind": 1}),
        )
    )
    assert rows < plain < chat
    assert rows < asked  # 128 questions a pass
    plain = demand_of(world(), sizes, on_gpu=False)
    emulated = demand_of(world(model={"frozen_precision": "float8"}), sizes, on_gpu=False)
    assert 1.9 * plain.frozen < emulated.frozen < 2 * plain.frozen  # two float32 copies, but of the embeddings
    narrow = world(model={"frozen_precision": "float8", "dtype": "bfloat16"})
    native = demand_of(narrow, sizes, on_gpu=True, native_float8=True)
    assert native.frozen == demand_of(world(model={"dtype": "bfloat16"}), sizes, on_gpu=True).frozen


def test_learners_without_a_server_are_counted():
    sizes = sizes_of(world())
    apart, pooled = (demand_of(world(run={"methods": [m]}), sizes, on_gpu=False) for m in ("local", "centralized"))
    assert apart.memory - pooled.memory == 2 * 2 * all_bytes(trainable_shapes("mlp", 128, 128))


class Planned(Events):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def planned(self, lines, misfits):
        self.lines = lines


def test_a_finished_run_that_is_overwritten_is_planned_like_a_new_one(tmp_path, world_cache):
    options = [*OPTIONS, "federation.rounds=1", f"run.folder={tmp_path}", f"run.cache={world_cache}"]
    loaded = load_recipe(recipe(tmp_path, methods=["fedavg"]), options)
    for overwrite in (False, True):
        told = Planned()
        train(loaded, overwrite=overwrite, events=told, progress=silent)
        assert told.lines, overwrite
    two = loaded.model_copy(update={"run": loaded.run.model_copy(update={"workers": 2})})
    train(two, overwrite=True, progress=silent)  # it has workers, or it would never end
    again = Planned()
    train(two, resume=True, events=again, progress=silent)
    assert again.lines == []  # finished: nothing is needed


def test_a_plan_runs_nothing(tmp_path):
    path = recipe(tmp_path, methods=["fedavg"])
    cache, runs = f"run.cache={tmp_path / 'cache'}", f"run.folder={tmp_path / 'runs'}"
    done = CliRunner().invoke(app, ["train", str(path), "--plan", "-o", cache, "-o", runs])
    assert done.exit_code == 0
    assert done.stdout.startswith("memory: at most ")
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr.endswith(": estimating what the run needs ...\n")
    assert {entry.name for entry in tmp_path.iterdir()} == {"small.toml"}


# --- the real models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llava-7b", "siglip2-qwen"])
def test_the_recipes_of_real_models_load_and_say_what_they_cannot_size(name, monkeypatch, tmp_path):
    """Neither models nor pairs are here."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    loaded = load_recipe(RECIPES / f"{name}.toml", ["model.device=cpu"])
    has(monkeypatch, PLENTY)
    plan = plan_run(loaded)
    vision, language = plan.lines[-2:]
    assert vision.startswith(f"not estimated: model.vision = '{loaded.model.vision}': not in the hub's cache, and ")
    assert language.startswith(
        f"not estimated: model.language = '{loaded.model.language}': not in the hub's cache, and "
    )
    plan.check()
    with pytest.raises(UserError, match=r"cc12m-image|LLaVA-Pretrain: no such folder"):
        plan_run(loaded, insist=True)  # a run that begins is told this alone
    world = load_recipe(RECIPES / "demo.toml", [f"model.vision={loaded.model.vision}", "model.device=cpu"])
    with pytest.raises(UserError, match=r"^model\.vision = .*not in the hub's cache"):
        plan_run(world, insist=True)
    with pytest.raises(UserError, match="no such folder"):  # before the hub is asked
        plan_run(world.model_copy(update={"model": world.model.model_copy(update={"language": "a/b/c"})}))


def test_llava_7b_is_the_papers_setting():
    loaded = load_recipe(RECIPES / "llava-7b.toml")
    assert (loaded.federation.rounds, loaded.training.batch_size, loaded.training.learning_rate) == (10, 256, 1e-3)
    assert (loaded.training.warmup_ratio, loaded.training.weight_decay, loaded.model.dtype) == (0.03, 0.0, "bfloat16")
    assert loaded.scenario.kind == "manifest"


def test_llava_7b_on_one_gpu_with_configs_at_hand(tmp_path, monkeypatch):
    """13.5 GB of frozen LLM; 256 pairs at a time do not fit in 80 GB, 16 do, and that is what the recipe has."""
    llm = LlamaConfig(hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32)
    llm.save_pretrained(tmp_path / "llm")
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    CLIPVisionConfig(**tower, image_size=336, patch_size=14).save_pretrained(tmp_path / "clip")
    parts = [f"model.language={tmp_path / 'llm'}", f"model.vision={tmp_path / 'clip'}", "model.device=cpu"]
    loaded = load_recipe(RECIPES / "llava-7b.toml", parts)
    found = sizes_of(loaded)
    sizes = Sizes(found.vision, found.language, 5_000_000, 0, 5)
    demand = demand_of(loaded, sizes, on_gpu=True)
    assert demand.export == pytest.approx(2 * (6_738_415_616 + 303_507_456 + 20_979_712))
    assert 50e9 < demand.gpu < 80e9
    assert demand.wire["fedavg"] == 5 * 2 * 83_918_848
    assert demand.store is None
    whole = loaded.model_copy(update={"training": loaded.training.model_copy(update={"micro_batch": None})})
    assert demand_of(whole, sizes, on_gpu=True).gpu > 600e9
    has(monkeypatch, Machine(10**12, 79 * 10**9, 10**15, 10**15))
    monkeypatch.setattr(preflight, "sizes_of", lambda recipe, **_: sizes)
    monkeypatch.setattr(preflight, "device_of", lambda name: __import__("torch").device("cuda"))
    with pytest.raises(
        UserError, match=r"GPU memory: needs about 7\d\d GB, 79\.0 GB free: set training\.micro_batch = 16"
    ):
        plan_run(whole).check()
