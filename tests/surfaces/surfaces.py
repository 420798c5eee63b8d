"""What users and other people's code rely on, as sorted lines of text: each list is kept in a file of this folder.

cli.txt          every verb's arguments and options, their types, choices and defaults
recipe.txt       every key of a recipe, a study's recipe and a site's file; every method with its options
run-folder.txt   every file that `fedcmp train` writes into a run's folder
python.txt       public names of fedcmp, fedcmp.aggregation and fedcmp.federation.flower with their signatures

python -m tests.surfaces.renew        (make surfaces)  write the lists anew
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import fedcmp
from fedcmp import aggregation
from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.cli.main import app
from fedcmp.client.objectives import available_objectives, describe_objective
from fedcmp.client.steps import available_steps, describe_step
from fedcmp.config import Recipe
from fedcmp.config.methods import NOT_FEDERATED, available_methods, choose
from fedcmp.deployment.site_file import Site
from fedcmp.federation import flower
from fedcmp.study.recipe import StudyRecipe

FOLDER = Path(__file__).parent
RECIPE = """
[run]
name = "surfaces"
methods = ["fedavg", "local"]
workers = 1
track = ["tensorboard"]

[data]
num_pairs = 60

[scenario]
clients = 2

[federation]
rounds = 1
payload = "int8"

[evaluation]
captions = 8
questions_per_kind = 1
samples = 1
sample_tokens = 2
"""


def command_line() -> list[str]:
    """One line per argument and option of every verb."""
    return sorted(_verb_lines(typer.main.get_command(app), "fedcmp"))


def _verb_lines(command: Any, words: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    for name, verb in inner.items():
        yield from _verb_lines(verb, f"{words} {name}")
    if not command.params and not inner:
        yield words
    places = [p for p in command.params if p.param_type_name == "argument"]
    for parameter in command.params:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = f"argument {places.index(parameter) + 1}, {parameter.name.upper()}:"
        notes = ["required"] if parameter.required else []
        notes += ["repeatable"] if parameter.multiple or parameter.nargs == -1 else []
        flag = getattr(parameter, "is_flag", False)
        silent = parameter.required or parameter.default is None or parameter.default is False
        value = "" if silent else f" = {parameter.default}"
        yield f"{words}: {names}{'' if flag else ' ' + _click_type(parameter.type)}{value}{_in_brackets(notes)}"


def _click_type(kind: Any) -> str:
    if hasattr(kind, "choices"):
        return "|".join(map(str, kind.choices))
    bounds = [f">= {kind.min}"] if getattr(kind, "min", None) is not None else []
    bounds += [f"<= {kind.max}"] if getattr(kind, "max", None) is not None else []
    return " ".join([kind.name.removesuffix(" range"), " and ".join(bounds)]).strip()


def _in_brackets(notes: list[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""


def recipe_keys() -> list[str]:
    """One line per key of a recipe and of a study's recipe, and one per option of every method."""
    lines = [f"recipe {line}" for line in _keys(Recipe)] + [f"study {line}" for line in _keys(StudyRecipe)]
    lines += [f"site {line}" for line in _keys(Site)]
    for name in available_methods():
        chosen = None if name in NOT_FEDERATED else choose(name)
        halves = f" = {chosen.aggregator} with objective {chosen.objective}, step {chosen.step}" if chosen else ""
        lines.append(f"method {name}{halves}")
        for option, value in (chosen.options if chosen else {}).items():
            lines.append(f"method {name}: options.{option} = {value!r}")
    for name in aggregation.available():
        for option, value in aggregation.describe(name).options().items():
            lines.append(f"method {name}: options.{option} = {value!r}")
    for name in available_objectives():
        lines.append(f"objective {name}")
        for option, value in describe_objective(name).options().items():
            lines.append(f"objective {name}: objective_options.{option} = {value!r}")
    for name in available_steps():
        lines.append(f"step {name}")
        for option, value in describe_step(name).options().items():
            lines.append(f"step {name}: step_options.{option} = {value!r}")
    return sorted(lines)


def _keys(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    yield from _schema_lines(schema, schema.get("$defs", {}), "")


def _schema_lines(schema: dict[str, Any], known: dict[str, Any], prefix: str) -> Iterator[str]:
    """Walk a section's JSON schema; NAME stands for a name that the user chooses, [] for an entry of a list."""
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        sections = list(_sections(value, known))
        if not _only_sections(value):
            default = "" if key in required or "default" not in value else f" = {_plain(value['default'])}"
            yield f"{prefix}{key}: {_schema_type(value)}{default}{_in_brackets(['required'] * (key in required))}"
        for within, section in sections:
            yield from _schema_lines(section, known, f"{prefix}{key}{within}.")


def _only_sections(value: dict[str, Any]) -> bool:
    """Whether a key is a section, a table or a list of sections, hence listed by what is in it."""
    options = [one for one in value.get("anyOf", [value]) if one.get("type") != "null"]
    inner = [one.get("additionalProperties", one.get("items", one)) for one in options]
    return all(isinstance(one, dict) and "$ref" in one for one in inner)


def _sections(value: dict[str, Any], known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in value.get("anyOf", [value]):
        for within, inner in (("", one), (".NAME", one.get("additionalProperties")), ("[]", one.get("items"))):
            if isinstance(inner, dict) and "$ref" in inner:
                yield within, known[inner["$ref"].rpartition("/")[2]]


def _schema_type(value: Any) -> str:
    """A type with its bounds, as `integer >= 1`."""
    if not isinstance(value, dict) or not value:
        return "any"
    if "anyOf" in value:
        return " | ".join(map(_schema_type, value["anyOf"]))
    if "$ref" in value:
        return "section"
    if "enum" in value or "const" in value:
        return "|".join(map(str, value.get("enum", [value.get("const")])))
    if value.get("type") == "array":
        return f"list of ({_schema_type(value.get('items'))}){_bounds(value)}"
    if value.get("type") == "object":
        return f"table of ({_schema_type(value.get('additionalProperties'))})"
    return f"{value.get('format', value.get('type', 'any'))}{_bounds(value)}"


def _bounds(value: dict[str, Any]) -> str:
    signs = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
        "minLength": "length >=",
        "minItems": "items >=",
        "pattern": "matches",
    }
    found = [f"{sign} {value[key]}" for key, sign in signs.items() if key in value]
    return " " + " and ".join(found) if found else ""


def _plain(value: Any) -> str:
    return "none" if value is None else repr(value)


def run_folder(run: Path) -> list[str]:
    """One line per kind of file under runs/NAME of a run with two methods; METHOD, N and KEY stand for what varies."""
    found = set()
    for path in run.rglob("*"):
        if path.is_file():
            name = path.relative_to(run).as_posix()
            name = re.sub(r"^(fedavg|local)/", "METHOD/", name)
            name = re.sub(r"events\.out\.tfevents\..*", "events.out.tfevents.*", name)
            name = re.sub(r"(?<=report/).*(?=\.png)", "*", name)
            found.add(re.sub(r"\d+", "N", name))
    return sorted(found)


def python_names() -> list[str]:
    """One line per public name of the package, with the signatures of what is called."""
    lines = []
    for module in (fedcmp, aggregation, flower):
        public = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and not isinstance(value, types.ModuleType)
        ]
        for name in public:
            value = getattr(module, name)
            called = str(inspect.signature(value)) if inspect.isfunction(value) else ""
            lines.append(f"{module.__name__}.{name}{called}")
    lines += [f"{kind.__name__}{inspect.signature(kind)}" for kind in (ClientUpdate, flower.AggregatorStrategy)]
    lines += _members(Aggregator, aggregation.create("fedavg"))
    lines += _members(fedcmp.Run, types.SimpleNamespace(folder=None))
    lines += _members(fedcmp.ResultTable, types.SimpleNamespace(rows=()))
    return sorted(re.sub(r"\b(\w+\.)+(?=[A-Z])", "", line) if "(" in line else line for line in lines)


def _members(kind: type, one: object) -> Iterator[str]:
    for name in {*dir(kind), *vars(one)}:
        if name.startswith("_"):
            continue
        value: Callable[..., Any] | None = getattr(kind, name, None)
        yield f"{kind.__name__}.{name}{inspect.signature(value) if callable(value) else ''}"
