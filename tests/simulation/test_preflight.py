"""Plans against real runs, against the machine, and for the recipes of the real models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from fedcmp.cli import app
from fedcmp.config import Recipe, load_recipe
from fedcmp.errors import UserError
from fedcmp.methods import NOT_FEDERATED, available_methods
from fedcmp.model.locations import resolve
from fedcmp.simulation import preflight
from fedcmp.simulation.machine import Machine
from fedcmp.simulation.preflight import Sizes, demand_of, plan_run, show, sizes_of
from tests.simulation.runner import command, environment, fedcmp, metrics, recipe

RECIPES = Path(__file__).parents[2] / "recipes"
PLENTY = Machine(memory=10**15, gpu=None, cache_disk=10**15, run_disk=10**15)
KINDS = ["fedavg", "fedcmp-parameters", "scaffold", "fedcmp"]  # one of each kind of message


def world(**sections: dict[str, object]) -> Recipe:
    content = {"data": {"num_pairs": 240}, "scenario": {"clients": 3}}
    return Recipe.model_validate({key: content.get(key, {}) | sections.get(key, {}) for key in content | sections})


def has(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(preflight, "read_machine", lambda device, cache, runs: machine)


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
    assert written > 0.5 * planned  # of fedcmp, the last: two of the three that there is room for


def test_a_run_says_what_it_will_need_before_it_starts(short):
    said = short[2].splitlines()
    first = [line.partition(":")[0] for line in said[:4]]
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


@pytest.mark.parametrize("features", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_runs_peak_memory_is_at_most_the_plan_and_at_least_half_of_it(tmp_path, world_cache, middling, features):
    path = recipe(tmp_path, methods=["fedavg"])
    options = [f"model.language={middling}", "data.num_pairs=64", "scenario.clients=1", "federation.rounds=1"]
    options += ["training.batch_size=32", "evaluation.captions=32", "evaluation.questions_per_kind=0"]
    options += ["data.max_caption_tokens=24", f"data.feature_store={features}", f"run.cache={world_cache}"]
    loaded = load_recipe(path, options)
    planned = demand_of(loaded, sizes_of(loaded), on_gpu=False)
    arguments = [part for option in options for part in ("-o", option)]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command("train", path, *arguments),
            cwd=tmp_path,
            env=environment(tmp_path, world_cache),
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
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
        {"run": {"workers": 1, "methods": ["fedavg", "fedcmp", "moon"]}},
    ):
        assert demand_of(world(**changed), sizes, on_gpu=False).memory > least.memory, changed
    narrow = world(model={"dtype": "bfloat16"}, data={"num_pairs": 240, "feature_dtype": "float32"})
    assert demand_of(narrow, sizes, on_gpu=False).frozen < least.frozen
    assert demand_of(narrow, sizes, on_gpu=False).store > 1.9 * least.store


@pytest.mark.parametrize(
    ("machine", "options", "message"),
    [
        ({"memory": 10**8}, {}, r"memory: needs up to .* GB, 100 MB available: set run\.workers = 1 or model\.dtype"),
        ({"memory": 16 * 10**8}, {"training": {"batch_size": 4096}}, r"training\.batch_size = \d+ or"),
        (
            {"cache_disk": 10**4},
            {},
            r"frozen features need .*, 10\.0 kB free: set run\.cache to .* or data\.feature_store = false",
        ),
        ({"run_disk": 10**4}, {}, r"runs: the run needs .* set run\.folder to one on a larger disk"),
    ],
)
def test_what_cannot_fit_is_refused_with_its_mend(tmp_path, monkeypatch, machine, options, message):
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path))
    has(monkeypatch, Machine(**(PLENTY.__dict__ | machine)))
    plan = plan_run(world(**options))
    with pytest.raises(UserError, match=message) as refused:
        plan.check()
    assert "\n" not in str(refused.value)
    has(monkeypatch, PLENTY)
    plan_run(world(**options)).check()


def test_the_batch_that_is_named_fits(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path))
    has(monkeypatch, Machine(16 * 10**8, None, 10**12, 10**12))
    said = plan_run(world(training={"batch_size": 4096})).misfits[0]
    size = int(said.split("training.batch_size = ")[1].split()[0])
    plan_run(world(run={"workers": 1}, training={"batch_size": size})).check()
    assert plan_run(world(run={"workers": 1}, training={"batch_size": 2 * size})).misfits


def test_a_run_that_may_not_fit_can_be_run_all_the_same(tmp_path, world_cache, monkeypatch, capsys):
    """Refused before anything is prepared; with run.preflight = "warn" it is only told."""
    from fedcmp.progress import Display
    from fedcmp.simulation.train import train

    has(monkeypatch, Machine(10**8, None, 10**12, 10**12))
    places = [f"run.folder={tmp_path / 'runs'}", f"run.cache={world_cache}", "federation.rounds=1", "run.workers=1"]
    path = recipe(tmp_path, methods=["fedavg"])
    refused = load_recipe(path, places)
    with pytest.raises(UserError, match=r'run\.preflight = "warn"'), Display(refused) as display:
        train(refused, events=display, progress=display.preparing)
    assert not (tmp_path / "runs").exists()
    capsys.readouterr()
    warned = load_recipe(path, [*places, "run.preflight=warn", "data.num_pairs=24", "evaluation.captions=8"])
    with Display(warned) as display:
        train(warned, events=display, progress=display.preparing)
    assert "may not fit: memory: needs up to" in capsys.readouterr().err


def test_a_plan_runs_nothing(tmp_path):
    path = recipe(tmp_path, methods=["fedavg"])
    cache, runs = f"run.cache={tmp_path / 'cache'}", f"run.folder={tmp_path / 'runs'}"
    done = CliRunner().invoke(app, ["train", str(path), "--plan", "-o", cache, "-o", runs])
    assert done.exit_code == 0
    assert done.output.startswith("memory: at most ")
    assert len(done.output.splitlines()) == 4
    assert {entry.name for entry in tmp_path.iterdir()} == {"small.toml"}


# --- the real models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llava-7b", "siglip2-qwen"])
def test_the_recipes_of_real_models_load_and_say_what_they_cannot_size(name, monkeypatch, tmp_path):
    """Neither models nor pairs are here."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    loaded = load_recipe(RECIPES / f"{name}.toml", ["model.device=cpu"])
    has(monkeypatch, PLENTY)
    plan = plan_run(loaded)
    assert (
        f"model.language = '{loaded.model.language}': its config.json is neither here nor to be had" in plan.lines[-1]
    )
    assert f"model.vision = '{loaded.model.vision}'" in plan.lines[-1]
    plan.check()


def test_llava_7b_is_the_papers_setting():
    loaded = load_recipe(RECIPES / "llava-7b.toml")
    assert (loaded.federation.rounds, loaded.training.batch_size, loaded.training.learning_rate) == (10, 256, 1e-3)
    assert (loaded.training.warmup_ratio, loaded.training.weight_decay, loaded.model.dtype) == (0.03, 0.0, "bfloat16")
    assert loaded.scenario.kind == "manifest"


def test_llava_7b_on_one_gpu_with_configs_at_hand(tmp_path, monkeypatch):
    """13.5 GB of frozen LLM; 256 pairs at a time do not fit in 80 GB, and the batch that does is named."""
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
    assert demand.gpu > 600e9
    assert demand.wire["fedavg"] == 5 * 2 * 83_918_848
    assert demand.store is None
    small = loaded.model_copy(update={"training": loaded.training.model_copy(update={"batch_size": 16})})
    assert 50e9 < demand_of(small, sizes, on_gpu=True).gpu < 80e9
    has(monkeypatch, Machine(10**12, 79 * 10**9, 10**15, 10**15))
    monkeypatch.setattr(preflight, "sizes_of", lambda recipe: sizes)
    monkeypatch.setattr(preflight, "device_of", lambda name: __import__("torch").device("cuda"))
    with pytest.raises(
        UserError, match=r"GPU memory: needs about 7\d\d GB, 79\.0 GB free: set training\.batch_size = 16"
    ):
        plan_run(loaded).check()
