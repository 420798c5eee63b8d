"""A learner that is killed in the middle of its part continues there, to the bit."""

import copy

import pytest
import torch

from fedcmp.client.steps import available_steps, create_step
from fedcmp.federation import learner as learner_module
from fedcmp.federation.client_folder import ClientFolder, PartFile
from fedcmp.federation.learner import Work
from fedcmp.wire.messages import Assignment
from fedcmp.wire.payload import forms

STEPS = [step for step in available_steps() if step != "adamw"]
TRAININGS = ["plain", "scaffold", "moon", "fedsam", "fedprox", "fedswa", *STEPS]


class KilledError(Exception):
    pass


@pytest.fixture
def side(engine, monkeypatch):
    """The engine's client side, which saves after every step."""
    side = copy.copy(engine.client_side)
    run = engine.recipe.run.model_copy(update={"save_seconds": 1e-9})
    side._recipe = engine.recipe.model_copy(update={"run": run})
    return side


def works(engine, objective, folder, clients=(1,)):
    step, public = "adamw", {}
    if objective in STEPS:
        objective, step = "plain", objective
        torch.manual_seed(3)
        start = engine.vlm.trainable.tensors()
        shapes = {n: t for n, t in start.items() if n.endswith("weight")}
        bases = {n: torch.linalg.qr(torch.randn(t.shape[1] + 1, t.shape[1] + 1))[0] for n, t in shapes.items()}
        public = {"canonical_basis": bases, "global_direction": {n: torch.randn_like(t) for n, t in start.items()}}
    extras = {label for service in create_step(step).services() for label in service.extras}
    assignment = Assignment(
        2,
        learning_rate=0.01,
        forms=forms("int8"),
        objective=objective,
        step=step,
        extras=sorted(extras | {"input_gram", "canonical_second_moment"}) if step != "adamw" else (),
        with_second_moment=True,
        error_feedback=True,
        state=engine.vlm.trainable.tensors(),
        public=public,
    )
    return [Work(client, assignment, ClientFolder(folder / f"client-{client}")) for client in clients]


def plain(replies):
    return [
        ({k: v for k, v in header.items() if k != "seconds"}, {n: (str(t.dtype), t.tolist()) for n, t in own.items()})
        for header, own in (reply.to_tensors() for reply in replies)
    ]


@pytest.mark.parametrize("objective", TRAININGS)
def test_a_killed_part_is_continued_to_the_bit(engine, side, tmp_path, objective):
    whole = plain(engine.client_side.carry_out(works(engine, objective, tmp_path / "whole")))
    steps = []

    def count():
        steps.append(1)
        if len(steps) == 1:
            raise KilledError

    side._on_step = count
    with pytest.raises(KilledError):
        side.carry_out(works(engine, objective, tmp_path / "killed"))
    assert (tmp_path / "killed" / "client-1" / "part.safetensors").exists()
    continued = plain(side.carry_out(works(engine, objective, tmp_path / "killed")))
    assert continued == whole
    assert len(steps) == 2  # one before the kill, one after it: nothing was done twice
    assert not (tmp_path / "killed" / "client-1" / "part.safetensors").exists()
    states = [ClientFolder(tmp_path / name / "client-1").load(2).to_tensors() for name in ("whole", "killed")]
    assert states[0][0] == states[1][0]
    assert all(torch.equal(tensor, states[1][1][name]) for name, tensor in states[0][1].items())


def test_a_cohort_is_continued_together(engine, side, tmp_path):
    whole = plain(engine.client_side.carry_out(works(engine, "canonical", tmp_path / "whole", (0, 2))))

    def kill():
        raise KilledError

    side._on_step = kill
    with pytest.raises(KilledError):
        side.carry_out(works(engine, "canonical", tmp_path / "killed", (0, 2)))
    side._on_step = lambda: None
    assert plain(side.carry_out(works(engine, "canonical", tmp_path / "killed", (0, 2)))) == whole


def test_another_assignment_does_not_continue_it(engine, side, tmp_path):
    def kill():
        raise KilledError

    side._on_step = kill
    with pytest.raises(KilledError):
        side.carry_out(works(engine, "plain", tmp_path))
    side._on_step = lambda: None
    (work,) = works(engine, "plain", tmp_path)
    other = Work(1, Assignment(2, learning_rate=0.02, forms=forms("float32"), state=work.assignment.state), work.folder)
    fresh = Work(1, other.assignment, ClientFolder(tmp_path / "fresh"))
    assert plain(side.carry_out([other])) == plain(engine.client_side.carry_out([fresh]))


def test_nothing_is_saved_unless_the_recipe_says_so(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(PartFile, "save", lambda *_: pytest.fail("saved"))
    monkeypatch.setattr(learner_module, "PartFile", lambda *_, **__: pytest.fail("made"))
    engine.client_side.carry_out(works(engine, "plain", tmp_path))
