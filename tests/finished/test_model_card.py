"""The model card: what it says, and what it does not say."""

import json
import re
import tomllib

import pytest
import tomli_w

from fedcmp.errors import UserError
from fedcmp.finished.model_card import model_card

RECIPE = {
    "run": {"name": "two hospitals", "methods": ["shared-basis"], "folder": "/home/ann/runs", "cache": "/scratch/ann"},
    "model": {
        "vision": "openai/clip-vit-large-patch14-336",
        "language": "/home/ann/models/vicuna",
        "prompt": "chat",
        "instruction": "What's this?",
        "projector_from": "/home/ann/old/mm_projector.bin",
    },
    "data": {
        "format": "llava",
        "clients": [{"name": "north", "pairs": "/home/ann/secret.json", "images": "/home/ann/pictures"}],
    },
    "scenario": {"kind": "given"},
    "versions": {"torch": "2.13.0", "fedcmp": "0.1.0"},
}
LINES = [
    {"kind": "data", "client": 0, "client_name": "north|south", "num_pairs": 70, "bad_pairs": {"missing": 2}},
    {"kind": "data", "client": 1, "client_name": "east", "num_pairs": 30, "wrong_captions": 3},
    {"kind": "evaluation", "round": 0, "model": "blind", "split": "held out", "caption_loss": 2.5},
    {"kind": "evaluation", "round": 1, "model": "global", "split": "held out", "caption_loss": 2.0},
    {
        "kind": "evaluation",
        "round": 2,
        "model": "global",
        "split": "held out",
        "caption_loss": 1.25,
        "worst_group": "east",
        "worst_group_loss": 1.5,
        "question_accuracy": 0.625,
    },
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(RECIPE))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return tmp_path


def test_recipe_data_and_figures_are_told(run):
    card = model_card(run)
    assert "# two hospitals: shared-basis" in card
    assert "100 image-caption pairs in llava format, scenario `given`" in card
    assert "| north\\|south | 70 | 2 | 0 |" in card
    assert "| east | 30 | 0 | 3 |" in card
    assert "On held-out pairs of the same clients; losses" in card
    assert "| this model (round 2) | 1.250 | 1.500 group “east” | 62.5 % |" in card
    assert "| blind: the same LLM without the image | 2.500 | – | – |" in card
    assert "torch 2.13.0, fedcmp 0.1.0" in card
    assert """TEXT = `"What's this?"`.""" in card
    told = tomllib.loads(card.split("```toml\n")[1].split("```")[0])
    assert told["model"]["vision"] == "openai/clip-vit-large-patch14-336"
    assert told["scenario"] == {"kind": "given"}


def test_the_front_matter_leaves_the_licence_open(run):
    _, front, _ = model_card(run).split("---\n", 2)
    lines = front.splitlines()
    assert lines[0].startswith("# license: to be filled in")
    assert lines[-2:] == [
        "base_model:",
        "- openai/clip-vit-large-patch14-336",
    ]  # a folder of one's own is no base model


def test_no_place_of_the_writers_disk_is_published(run):
    card = model_card(run)
    assert "ann" not in card.replace("channel", "")
    assert "secret" not in card
    assert "`vicuna`" in card
    assert 'projector_from = "mm_projector.bin"' in card


def test_a_local_learner_is_told_with_its_own_figures(run):
    own = [
        {"kind": "evaluation", "round": 2, "model": "client", "client": n, "split": "test", "caption_loss": 3.0 + n}
        for n in (0, 1)
    ]
    recipe = RECIPE | {"run": RECIPE["run"] | {"methods": ["local"]}}
    (run / "recipe.toml").write_text(tomli_w.dumps(recipe))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*LINES[:2], *own]))
    card = model_card(run, client=1)
    assert "local, client 1 alone" in card
    assert "| this model (round 2) | 4.000 |" in card
    assert "30 image-caption pairs" in card  # what this model has seen, not what the others hold
    assert "north" not in card.split("## Recipe")[0]


def test_an_unfinished_run_has_not_seen_all_its_pairs(run):
    (run / "recipe.toml").write_text(tomli_w.dumps(RECIPE | {"federation": {"rounds": 5}}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "round", "round": 2, "seconds": 1.0}) + "\n")
    assert "those of the first 2 of 5 rounds seen once" in model_card(run)


def test_benchmarks_that_were_asked_are_among_the_figures(run):
    assert "lmms-eval" not in model_card(run)
    (run / "benchmarks").mkdir()
    content = {"benchmark": "mm-vet", "score": 31.25, "asked": 50, "items": 218, "limit": 50, "prompts": None}
    content["judge"] = {"model": "judge|a", "prompt_sha256": "0123456789abcdef"}
    (run / "benchmarks" / "mm-vet.json").write_text(json.dumps(content))
    assert "| MM-Vet | 31.2 (%) | 50 of 218 | “judge\\|a” (prompt 0123456789ab) |" in model_card(run)
    (run / "benchmarks" / "mm-vet.json").write_text(json.dumps(content | {"toy": True}))
    assert "| mm-vet-world | 31.2 (%) |" in model_card(run)
    (run / "benchmarks" / "mm-vet.json").write_text(json.dumps(content | {"round": 1}))
    assert "lmms-eval" not in model_card(run)  # that was another projector


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="no run in it"):
        model_card(tmp_path)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](http://evil) [x](http://evil)",
    "\n# owned\n---\n",
    "`` ` ```",
    "a\u202eb\x1b[31m",
    "**bold** | cell | ~~gone~~ &lt;b&gt; <!-- ",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_names_of_others_are_words(run, words):
    model = RECIPE["model"] | {"language": words, "vision": words + "/x", "instruction": words}
    recipe = RECIPE | {"run": RECIPE["run"] | {"name": words}, "model": model, "scenario": {"kind": words}}
    (run / "recipe.toml").write_text(tomli_w.dumps(recipe | {"versions": {"torch": words}}))
    data = [line | {"client_name": words} for line in LINES[:2]]
    last = LINES[-1] | {"worst_group": words}
    lines = [*data, *LINES[2:-1], last]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = model_card(run)
    prose, fence, rest = card.partition("\n## Recipe\n")
    assert fence
    assert "\u202e" not in card
    assert "\x1b" not in card
    outside = re.sub(r"(`+) ?.*? ?\1", "", prose.split("---\n", 2)[2].replace(_load_block(prose), ""))
    assert not re.search(r"(?<!\\)[<>\[\]]", outside), outside
    assert not [line for line in prose.splitlines() if line.startswith("# owned")]
    assert prose.count("\n---\n") == 1  # the front matter's end
    opening = rest.splitlines()[0]
    assert opening.strip("`") == "toml"
    marks = opening.removesuffix("toml")
    body = rest.split(f"{opening}\n", 1)[1].split(f"\n{marks}\n", 1)[0]
    assert tomllib.loads(body)["scenario"] == {"kind": words}
    assert rest.count(f"\n{marks}\n") == 1


def _load_block(prose):
    return prose[prose.index("```python") : prose.index("```", prose.index("```python") + 3) + 3]
