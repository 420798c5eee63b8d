"""A study's recipe: what every run shares, the scenarios with their seeds, the methods with what is tuned of them.

[study]                 name, folder, workers
[base.*]                an ordinary recipe: what all runs share
[tuning]                scenario, seed, rungs: never one of the reported seeds
[scenario.NAME]         title, seeds, methods, and [scenario.NAME.recipe.*]: what differs from the base
[benchmarks]            with study.benchmarks: their data, lmms-eval's python, the judge
[method.NAME]           title, learning_rates, knob, or `like`: the settings of another method with some replaced
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedcmp.config import Recipe, first_mistake, read_toml
from fedcmp.config.methods import choose, choose_alone, unknown
from fedcmp.config.sections import Count, LearningRate, Seed
from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.references import is_federated

MOST_TRIALS = 12
SUITES = tuple(f"{name}-world" for name in BENCHMARKS)  # our counterparts; the suites themselves load torch


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=True)


class StudySection(_Section):
    """Name, place and width of the study."""

    name: str = Field(
        "study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study, shown on its pages"
    )
    folder: Annotated[Path, Field(strict=False)] = Field(Path("runs/study"), description="where run files are kept")
    workers: int = Field(2, ge=1, le=256, description="runs side by side, one torch thread each")
    suites: list[str] = Field(list(SUITES), description="asked at the end of every reported run")
    benchmarks: Literal["llava7"] | None = Field(
        None, description="ask every reported run the paper's seven benchmarks too, by lmms-eval; see [benchmarks]"
    )


class BenchmarksSection(_Section):
    """Where the paper's benchmarks lie and what asks them; as the options of `fedcmp evaluate --suite llava7`."""

    datasets: Annotated[Path, Field(strict=False)] = Field(description="the folder that holds one folder a benchmark")
    lmms_python: Annotated[Path | None, Field(strict=False)] = Field(
        None, description="of lmms-eval's environment; default: $FEDCMP_LMMS_PYTHON"
    )
    only: list[str] = Field([], description="these benchmarks; default: all that have data and, if needed, a judge")
    limit: Count | None = Field(None, description="rows of each, to try out")
    judge_url: str | None = Field(None, description="base of an OpenAI-compatible API for open answers")
    judge_model: str | None = Field(None, description="the judge's name there")
    judge_key: str = Field("OPENAI_API_KEY", description="environment variable of its key")
    prompts: Literal["lmms-eval", "world"] | None = Field(None, description="default: world for the world's LLM")
    device: str = Field("auto", description="where the model runs: auto, cpu, cuda or cuda:N")


class Rung(_Section):
    """One step of successive halving."""

    trials: Count = Field(
        description="settings that are tried: the best ones of the rung before, in the first rung the grid's first ones"
    )
    captions: int = Field(ge=1, le=10**8, description="training pairs of each trial")


class TuningSection(_Section):
    """How every method is tuned: the same budget for all, on validation scenes and a seed that is not reported."""

    scenario: str = Field(description="scenario on which all methods are tuned")
    seed: Seed = Field(description="random seed of the tuning runs; must not be one that is reported")
    rungs: list[Rung] = Field(min_length=1)

    @model_validator(mode="after")
    def _within_budget(self) -> Self:
        trials = [rung.trials for rung in self.rungs]
        if sum(trials) > MOST_TRIALS:
            raise ValueError(f"tuning.rungs: {sum(trials)} trials a method; at most {MOST_TRIALS}")
        if trials != sorted(trials, reverse=True):
            raise ValueError(f"tuning.rungs: trials {trials} must not grow from rung to rung")
        return self


class Best(_Section):
    """The methods that came out best in another scenario; a list of names or "all" (the default) may stand instead."""

    best: int = Field(ge=1, description="number of federated methods, by caption loss; references are added")
    of: str = Field(description="the scenario that decides; its runs must be complete first")
    also: list[str] = Field([], description="methods that run whatever their place, for others to be compared with")


class ScenarioSection(_Section):
    """One scenario."""

    title: str = Field(description="name in tables and figures")
    seeds: list[Seed] = Field(min_length=1, description="random seeds; every method runs once for each")
    methods: list[str] | Literal["all"] | Best = Field("all", description="all: every method but the ablation's arms")
    ablation_seeds: list[Seed] = Field([], description="seeds on which the ablation's arms run too")
    trajectory_seeds: list[Seed] = Field(
        [], description="seeds on which all methods but the arms are judged after every round, not only after the last"
    )
    recipe: dict[str, Any] = Field({}, description="what differs from the base")


class Knob(_Section):
    """A method's own main setting, tuned together with its learning rate."""

    name: str = Field(
        pattern=r"^(options|objective_options|step_options)\.[a-z_0-9]+$",
        description="the option: options.NAME, objective_options.NAME or step_options.NAME",
    )
    values: list[Any] = Field(min_length=1, description="values to try; the first is the method's default")


class MethodSection(_Section):
    """One method."""

    title: str = Field(description="name in tables and figures")
    family: Literal["baseline", "reference", "ours", "ablation"] = Field(
        "baseline", description="which group it is listed with; an ablation's arms appear in its own tables only"
    )
    table: str | list[str] | None = Field(None, description="the ablation tables it is an arm of")
    arms: dict[str, Any] = Field({}, description="what such a table says of it; with several tables, one entry each")
    aggregator: str | None = Field(None, description="server rule; default: the one that the method's name stands for")
    objective: str | None = Field(None, description="local objective; default: the one that the name stands for")
    options: dict[str, Any] = Field({}, description="options of the server rule")
    objective_options: dict[str, Any] = Field({}, description="options of the local objective")
    step: str | None = Field(None, description="the clients' step; default: the one that the name stands for")
    step_options: dict[str, Any] = Field({}, description="options of the step")
    learning_rates: list[LearningRate] = Field(
        [], description="tried in this order; the first is the one nearest to common use"
    )
    knob: Knob | None = None
    like: str | None = Field(None, description="takes that method's tuned settings, and its own options on top")


class StudyRecipe(_Section):
    """A whole study."""

    study: StudySection = StudySection()
    base: dict[str, Any] = Field(description="a run's recipe, section by section: what all runs share")
    tuning: TuningSection
    benchmarks: BenchmarksSection | None = None
    scenario: dict[str, ScenarioSection] = Field(min_length=1)
    method: dict[str, MethodSection] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for suite in self.study.suites:
            if suite not in SUITES:
                renamed = f"{suite}-world" if f"{suite}-world" in SUITES else ""
                said = f"{suite} is called {renamed} now: it is none of the real benchmarks" if renamed else ""
                raise ValueError(f"study.suites: {said or unknown('suite', suite, list(SUITES))}")
        if (self.study.benchmarks is None) != (self.benchmarks is None):
            raise ValueError(
                'benchmarks: the section goes with study.benchmarks = "llava7", and that needs its datasets'
            )
        if self.benchmarks is not None:
            self._check_benchmarks(self.benchmarks)
        if self.tuning.scenario not in self.scenario:
            raise ValueError(f"tuning.scenario: {unknown('scenario', self.tuning.scenario, list(self.scenario))}")
        for name, scenario in self.scenario.items():
            if self.tuning.seed in scenario.seeds:
                raise ValueError(f"scenario.{name}.seeds: {self.tuning.seed} is what the methods are tuned on")
            if len(set(scenario.seeds)) != len(scenario.seeds):
                raise ValueError(f"scenario.{name}.seeds: a seed is named twice")
            for key in ("ablation_seeds", "trajectory_seeds"):
                if not set(getattr(scenario, key)) <= set(scenario.seeds):
                    raise ValueError(f"scenario.{name}.{key}: must be among its seeds")
            named = scenario.methods if isinstance(scenario.methods, list) else []
            also = scenario.methods.also if isinstance(scenario.methods, Best) else []
            for key, method in [*(("methods", m) for m in named), *(("methods.also", m) for m in also)]:
                if method not in self.method:
                    raise ValueError(f"scenario.{name}.{key}: {unknown('method', method, list(self.method))}")
            if isinstance(scenario.methods, Best) and scenario.methods.of not in self.scenario:
                raise ValueError(
                    f"scenario.{name}.methods.of: {unknown('scenario', scenario.methods.of, list(self.scenario))}"
                )
        for name, section in self.method.items():
            self._check_method(name, section)
        return self

    def _check_benchmarks(self, given: BenchmarksSection) -> None:
        for name in given.only:
            if name not in BENCHMARKS:
                raise ValueError(f"benchmarks.only: {unknown('benchmark', name, list(BENCHMARKS))}")
        if (given.judge_url is None) != (given.judge_model is None):
            raise ValueError("benchmarks: a judge needs both judge_url and judge_model, its server and its name there")

    def _check_method(self, name: str, method: MethodSection) -> None:
        if method.like is not None:
            if method.like not in self.method or self.method[method.like].like is not None:
                raise ValueError(f"method.{name}.like: must be a method of this study that is tuned itself")
            if method.learning_rates or method.knob:
                raise ValueError(f"method.{name}: with `like` nothing is tuned; remove learning_rates and knob")
        elif not method.learning_rates:
            raise ValueError(f"method.{name}.learning_rates: give the rates to try, or `like`")
        known = method.like or name
        try:
            if is_federated(name):
                choose(known, aggregator=method.aggregator, objective=method.objective, step=method.step)
            else:
                choose_alone(name, step=method.step, step_options=method.step_options)
        except ValueError as error:
            raise ValueError(f"method.{name}: {error}") from error


def load_study(path: Path, overrides: list[str] | None = None) -> StudyRecipe:
    """Read, override and check a study's recipe.

    Raises:
        UserError: no such file, no TOML, or a mistake in it: names the key.
    """
    content = read_toml(path, overrides)
    if "run" in content and "study" not in content:
        raise UserError(f"{path}: is the recipe of a run; train it with `fedcmp train {path}`")
    try:
        study = StudyRecipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error, content, StudyRecipe)}") from error
    worlds: dict[str, str] = {}
    for name in study.scenario:
        shared = run_recipe(study, name, seed=study.scenario[name].seeds[0], source=str(path))
        if shared.model.dtype == "auto":
            raise UserError(f'{path}: model.dtype = "auto": a study runs everywhere alike; name the dtype')
        worlds.setdefault(shared.data.world, name)
    _check_worlds(path, study, worlds)
    return study


def _check_worlds(path: Path, study: StudyRecipe, worlds: Mapping[str, str]) -> None:
    """Check that the scenarios share a world (world -> its first scenario), and that its suites are asked only."""
    if len(worlds) > 1:
        named = ", ".join(f"{world} in scenario {scenario}" for world, scenario in worlds.items())
        raise UserError(f"{path}: data.world: {named}; a study has one world, for all share the blind LLM's figures")
    if study.study.suites and "embedded" not in worlds:
        (world,) = worlds
        raise UserError(
            f'{path}: study.suites: they ask about the embedded world\'s families; with data.world = "{world}" set '
            "suites = []"
        )


def run_recipe(study: StudyRecipe, scenario: str, *, seed: int, source: str = "study") -> Recipe:
    """The ordinary recipe that a scenario's runs share, for one seed.

    Raises:
        UserError: base and scenario do not make a recipe; names the key.
    """
    content = _merged(study.base, study.scenario[scenario].recipe)
    own = {"seed": seed, "name": "study", "workers": 1, "methods": ["fedavg"]}
    given = content.get("run", {})
    content["run"] = {**given, **own} if isinstance(given, dict) else given
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        mistake = first_mistake(error, content, Recipe)
        raise UserError(f"{source}: base with scenario.{scenario}.recipe: {mistake}") from error


def _merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in other.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out
