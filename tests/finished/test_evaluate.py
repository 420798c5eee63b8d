"""`fedcmp evaluate` without a suite: a table for people, JSON for machines, progress on stderr."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from fedcmp.finished.model_card import CHOSEN
from fedcmp.runs.folder import Checkpoint, RunFolder


def test_a_table_for_people_and_json_for_machines(runs, fedcmp):
    more = ("-o", "evaluation.questions_per_kind=1")
    code, out, err = fedcmp("evaluate", runs / "local", "--json", *more)
    assert code == 0, err
    figures = json.loads(out)
    assert list(figures) == ["round", "client-0", "client-1", "blind"]
    assert err.startswith(f"{runs}/local: loading the model and the held-out pairs ...\n")
    asked = sum(figures["blind"]["questions_by_kind"].values())
    units = 3 * (16 + asked) + 2 * 16  # the clients' projectors are also judged on shuffled images
    assert f"captions and questions: {units} of {units}" in err

    code, out, err = fedcmp("evaluate", runs / "local", *more)
    assert code == 0, err
    words = " ".join(out.split())
    assert f"{runs}/local, after round 1" in words
    assert "Caption loss (nats/token)" in words
    for who, name in (("client-0", "client-0"), ("blind", "blind (same LLM, no image)")):
        (line,) = [line for line in out.splitlines() if name in line]
        assert f" {figures[who]['caption_loss']:.3f} " in line
        assert f" {figures[who]['worst_group_loss']:.3f} group “{figures[who]['worst_group']}” " in line
        assert f" {100 * figures[who]['question_accuracy']:.1f} " in line
    assert f"16 held-out captions, {asked} questions." in words


def test_json_is_not_the_suites_form(runs, tmp_path, fedcmp):
    code, _, err = fedcmp("evaluate", runs / "fedavg", "--json", "--suite", "llava7", "--datasets", tmp_path)
    assert code == 2
    assert "--json: not with --suite" in err


def test_an_export_says_what_it_does(runs, tmp_path, fedcmp):
    code, out, err = fedcmp("export", runs / "fedavg", tmp_path / "out")
    assert code == 0, err
    assert out == f"exported: {tmp_path / 'out'}\n"
    assert [line.partition(" ")[0] for line in err.splitlines()] == [f"{runs}/fedavg:", "loading", "writing"]


@pytest.fixture
def earlier(runs, tmp_path):
    """A run whose first round was better than its second: the same projector, but turned round in the last."""
    folder = shutil.copytree(runs / "fedavg", tmp_path / "fedavg")
    kept = RunFolder(folder)
    first = kept.last()
    turned = {name: -tensor for name, tensor in first.projectors["global"].items()}
    kept.save(Checkpoint(2, {"global": turned}, first.server, first.state))
    shutil.copytree(runs / "prepared", tmp_path / "prepared")
    return folder


def test_the_best_round_is_evaluated_and_its_figures_called_biased(runs, earlier, fedcmp):
    figures = {}
    for which in ("last", "best", "1"):
        code, out, err = fedcmp("evaluate", earlier, "--json", "--round", which)
        assert code == 0, err
        figures[which] = json.loads(out)
    assert [figures[which]["round"] for which in figures] == [2, 1, 1]
    assert figures["best"] == figures["1"]
    assert figures["best"]["global"]["caption_loss"] < figures["last"]["global"]["caption_loss"]
    code, out, err = fedcmp("evaluate", earlier, "--round", "best")
    assert code == 0, err
    assert "after round 1" in out
    assert "biased" in out
    code, _, err = fedcmp("evaluate", earlier, "--round", "best", "--suite", "llava7", "--datasets", earlier)
    assert code == 2
    assert "--round best: not with --suite; export that round" in err


def test_the_best_round_is_exported_and_its_card_says_that_it_was_chosen(earlier, tmp_path, fedcmp):
    code, _, err = fedcmp("export", earlier, tmp_path / "best", "--round", "best")
    assert code == 0, err
    assert "round 1 of 1" in err
    assert CHOSEN.strip() in (tmp_path / "best" / "README.md").read_text()
    code, _, err = fedcmp("export", earlier, tmp_path / "last")
    assert code == 0, err
    assert CHOSEN.strip() not in (tmp_path / "last" / "README.md").read_text()
    for which in ("best", "last"):
        code, _, err = fedcmp(
            "export", earlier, tmp_path / f"{which}.safetensors", "--projector-only", "--round", which
        )
        assert code == 0, err
    best, last = (load_file(tmp_path / f"{which}.safetensors") for which in ("best", "last"))
    assert all(torch.equal(tensor, -last[name]) for name, tensor in best.items())
    code, _, err = fedcmp("export", earlier, tmp_path / "none", "--round", "7")
    assert code == 2
    assert "round 7: " in err
    assert "kept are the rounds 1, 2" in err
