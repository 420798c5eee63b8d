"""What a study consists of: runs, each known by the hash of all that determines its result."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fedcmp.config import Method, Recipe, first_mistake
from fedcmp.config.methods import PLAIN_STEP, choose
from fedcmp.errors import UserError
from fedcmp.evaluation.suites.table import SUITES
from fedcmp.model.prompts import INSTRUCTION
from fedcmp.references import is_federated
from fedcmp.study.recipe import MethodSection, StudyRecipe, run_recipe
from fedcmp.world.worlds import WORLDS

REVISION = "1"  # raised whenever the code changes what a run comes to
Settings = dict[str, Any]  # learning_rate, aggregator, objective, step, and the options of all three
_LATER: dict[str, dict[str, Any]] = {  # section -> key -> its value where it is not set
    "scenario": {
        "rate_factors": {},
        "manifest": None,
        "max_missing_fraction": 0.5,
        "client_seconds": [],
        "clock": "virtual",
    },
    "federation": {
        "mode": "sync",
        "buffer_size": None,
        "staleness_discount": 0.5,
        "payload": "float32",
        "error_feedback": True,
        "broadcast_payload": None,
        "min_clients": 1,
        "deadline": None,
    },
    "model": {
        "frozen_precision": "same",
        "compile": False,
        "logit_rows": None,
        "prompt": "plain",
        "instruction": INSTRUCTION,
        "projector_from": None,
    },
    "data": {"train_share": 1.0, "world": "embedded"},
    "training": {"micro_batch": None, "rate_factor": 1.0},
}
_FIRST_RATE = (
    1e-3  # training.learning_rate before each method had a default: all runs name their own, so it never counted
)
# an option that came later, the rule or objective that has it, its default, and what the first runs did
_LATER_OPTIONS = (
    ("options", "shared-basis", "normalise", True, False),
    ("options", "fisher", "parameter_normalise", True, False),
    ("step_options", "canonical", "stretch", True, False),
)
_NO_RESULT = ("workers", "cache", "folder", "name", "methods", "track", "preflight", "save_seconds")  # keys of [run]


@dataclass(frozen=True)
class PlannedRun:
    """One run.

    Attributes:
        scenario: its name in the study.
        method: its name in the study.
        seed: of the run.
        recipe: complete, with the method's settings in it.
        suites: the suites that are asked at the end.
    """

    scenario: str
    method: str
    seed: int
    recipe: Recipe
    suites: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """sha256 of all that determines the result."""
        content = _content(self.recipe)
        content["run"] = {key: value for key, value in content["run"].items() if key not in _NO_RESULT}
        method = _settings(self.method, content.pop("method").get(self.method, {}))
        known: dict[str, Any] = {"recipe": content, "settings": method, "name": _identity(self.method, method)}
        named = [suite.removesuffix("-world") for suite in self.suites]  # as the first runs named them
        asked = self.suites == SUITES or (named if named else False)
        known |= {"suites": asked, "world": WORLDS[self.recipe.data.world].revision, "revision": REVISION}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    @property
    def pairs_hash(self) -> str:
        """sha256 of what determines the prepared pairs: runs that agree in it share them."""
        content = _content(self.recipe)
        content["scenario"].pop("rate_factors", None)  # neither these nor when it is judged change a pair
        del content["evaluation"]["every"]
        known = {key: content[key] for key in ("model", "data", "scenario", "evaluation")}
        known |= {"rounds": content["federation"]["rounds"], "seed": self.recipe.run.seed}
        known["world"] = WORLDS[self.recipe.data.world].revision
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def label(self) -> str:
        """For people."""
        return f"{self.scenario}, {self.method}, seed {self.seed}"


def _content(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is hashed: a key that came later than the first runs counts where it is set only."""
    content = recipe.model_dump(mode="json")
    del content["deployment"]  # how sites are reached changes no result of a simulation
    for section, keys in _LATER.items():
        for key, unset in keys.items():
            if content[section][key] == unset:
                del content[section][key]
    if content["training"]["learning_rate"] is None:
        content["training"]["learning_rate"] = _FIRST_RATE
    return content


def _settings(method: str, settings: Settings) -> Settings:
    """A method's settings as they are hashed: a later option counts where it is not what the first runs did."""
    hashed = dict(settings)
    if is_federated(method):
        chosen = choose(
            method,
            aggregator=settings.get("aggregator"),
            objective=settings.get("objective"),
            step=settings.get("step"),
        )
        owners = {"options": chosen.aggregator, "objective_options": chosen.objective, "step_options": chosen.step}
        for part, owner, option, default, first in _LATER_OPTIONS:
            if owner != owners[part]:
                continue
            given = dict(hashed.get(part) or {})
            value = given.pop(option, default)
            hashed[part] = given if value == first else given | {option: value}
    return _as_first_written(method, hashed)


def _as_first_written(method: str, settings: Settings) -> Settings:
    """Settings with canonical steps as the first runs wrote them, when these were an objective; AdamW's left out.

    What canonical steps can be combined with only now has a hash of its own: the first runs had no such method.
    """
    written, step = dict(settings), settings.get("step")
    options = written.pop("step_options", None) or {}
    written.pop("step", None)
    if not is_federated(method):
        named = {"step": step, "step_options": options}
        return written | {key: value for key, value in named.items() if value}
    chosen = choose(method, aggregator=settings.get("aggregator"), objective=settings.get("objective"), step=step)
    was_objective = chosen.step == "canonical" and chosen.aggregator == "shared-basis" and chosen.objective == "plain"
    if was_objective:
        return written | {
            "objective": step if settings.get("step") else settings.get("objective"),
            "objective_options": options,
        }
    return written | ({"step": chosen.step, "step_options": options} if chosen.step != PLAIN_STEP else {})


def _identity(method: str, settings: Settings) -> str:
    """A method's name counts only where it says what it does: an arm that is renamed stays the same run."""
    return method if not is_federated(method) or not settings.get("aggregator") else ""


def settings_of(section: MethodSection, learning_rate: float, knob_value: object = None) -> Settings:
    """A method's settings with a rate and, if it has one, its knob's value."""
    settings: Settings = {
        "learning_rate": learning_rate,
        "aggregator": section.aggregator,
        "objective": section.objective,
        "options": dict(section.options),
        "objective_options": dict(section.objective_options),
    }
    # as published tunings have them: no word of a step where the name says it all
    settings |= {"step": section.step} if section.step else {}
    settings |= {"step_options": dict(section.step_options)} if section.step_options else {}
    if section.knob is not None:
        part, _, name = section.knob.name.partition(".")
        settings[part] = {**settings.get(part, {}), name: knob_value}
    return settings


def grid(section: MethodSection) -> list[Settings]:
    """All combinations of rates and knob values, the likeliest first: sums of the two positions in their lists."""
    values = section.knob.values if section.knob else [None]
    places = [(i + j, i, j) for i in range(len(section.learning_rates)) for j in range(len(values))]
    return [settings_of(section, section.learning_rates[i], values[j]) for _, i, j in sorted(places)]


def inherited(study: StudyRecipe, name: str, tuned: Settings) -> Settings:
    """The settings of a method that is `like` another: that one's, with its own on top.

    Options of a server rule that it does not share with the other are left behind; so are those of objective and step.
    """
    section = study.method[name]
    assert section.like is not None
    other = choose(section.like, aggregator=tuned["aggregator"], objective=tuned["objective"], step=tuned.get("step"))
    aggregator, objective = section.aggregator or other.aggregator, section.objective or other.objective
    step = section.step or other.step
    options = tuned["options"] if aggregator == other.aggregator else {}
    objective_options = tuned["objective_options"] if objective == other.objective else {}
    step_options = tuned.get("step_options", {}) if step == other.step else {}
    return {
        "learning_rate": tuned["learning_rate"],
        "aggregator": aggregator,
        "objective": objective,
        "options": {**options, **section.options},
        "objective_options": {**objective_options, **section.objective_options},
        "step": step,
        "step_options": {**step_options, **section.step_options},
    }


def planned_run(
    study: StudyRecipe, scenario: str, method: str, seed: int, settings: Settings, *, captions: int | None = None
) -> PlannedRun:
    """A reported run; with `captions`, a short one for tuning: on validation scenes, without suites, judged once."""
    recipe = run_recipe(study, scenario, seed=seed)
    tuning = captions is not None
    evaluation = recipe.evaluation.model_dump()
    rounds = recipe.federation.rounds
    is_arm = method in study.method and study.method[method].family == "ablation"
    followed = seed in study.scenario[scenario].trajectory_seeds and not is_arm
    evaluation["every"] = 1 if followed and not tuning else rounds
    if tuning:
        evaluation |= {"split": "validation", "questions_per_kind": 0}
    content = recipe.model_dump() | {"evaluation": evaluation, "method": {method: _method(settings)}}
    content["run"] = {**content["run"], "methods": [method]}
    if tuning:
        content["data"] = {**content["data"], "num_pairs": captions}
    return PlannedRun(
        scenario, method, seed, Recipe.model_validate(content), suites=() if tuning else tuple(study.study.suites)
    )


def check_settings(study: StudyRecipe, source: str = "study") -> None:
    """Refuse options that a method of the study does not take, before anything is run.

    Raises:
        UserError: names the source, the method and the option.
    """
    scenario = study.tuning.scenario
    for name, section in study.method.items():
        tried = grid(section) if section.like is None else []
        if section.like is not None:
            tried = [inherited(study, name, grid(study.method[section.like])[0])]
        first_rate = tried[0]["learning_rate"]  # a knob's values are tried with one rate
        for settings in tried:
            if settings["learning_rate"] == first_rate:
                try:
                    planned_run(study, scenario, name, study.tuning.seed, settings)
                except ValidationError as error:
                    raise UserError(f"{source}: {first_mistake(error, {}, Recipe)}") from error


def _method(settings: Settings) -> dict[str, Any]:
    known = {key: value for key, value in settings.items() if value is not None}
    return Method.model_validate(known).model_dump()
