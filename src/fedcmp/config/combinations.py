"""What the keys of a recipe must be together. Each check raises ValueError with the key in front."""

import re

from fedcmp.config.methods import NOT_FEDERATED, Chosen, choose
from fedcmp.config.sections import FOLDER_NAME, Data, Evaluation, Method, Model, Run, Scenario
from fedcmp.model.projector import Projector  # noqa: F401 - registers its kinds
from fedcmp.model.prompts import INSTRUCTION
from fedcmp.model.trainable import trainable_kinds

RESERVED = ("prepared", "report", "evaluations")  # folders of a run, beside those of its methods


def check_data(data: Data, evaluation: Evaluation) -> None:
    """Pairs come from one place, and questions fit them."""
    if data.format == "world":
        if data.pairs or data.clients or data.images:
            raise ValueError(
                "data.pairs: the embedded world makes its own pairs; set data.format to llava, webdataset or parquet"
            )
        if data.num_pairs is None:
            raise ValueError("data.num_pairs: say how many pairs of the embedded world to use, for example 12000")
        if evaluation.questions:
            raise ValueError(
                "evaluation.questions: the embedded world asks its own questions; "
                "evaluation.questions_per_kind says how many"
            )
    elif not data.pairs and not data.clients:
        raise ValueError("data.pairs: missing; name the JSON, JSONL, tar or parquet files, or give [[data.clients]]")
    if data.pairs and data.clients:
        raise ValueError("data.clients: give either data.pairs or [[data.clients]], not both")
    if data.clients and data.num_pairs is not None:
        raise ValueError("data.num_pairs: not with [[data.clients]]; give each client its own files, cut as you wish")
    names = [client.name for client in data.clients]
    if len(set(names)) != len(names):
        raise ValueError("data.clients: two clients have the same name")


def check_scenario(scenario: Scenario, data: Data) -> None:
    """The scenario is one that these pairs can be divided by, and names clients that there are."""
    if data.clients and scenario.kind != "given":
        raise ValueError('scenario.kind: clients that bring their own pairs need scenario.kind = "given"')
    if scenario.kind == "given" and not data.clients:
        raise ValueError('scenario.kind = "given": needs [[data.clients]]; or choose iid, image, text, joint or cross')
    if (scenario.kind == "manifest") != (scenario.manifest is not None):
        raise ValueError(
            'scenario.manifest: goes with scenario.kind = "manifest", and that needs it: a folder that '
            "`fedcmp scenario build` wrote"
        )
    if scenario.kind in ("style", "family") and data.format != "world":
        raise ValueError(f'scenario.kind = "{scenario.kind}": only the embedded world knows styles and families')
    clients = len(data.clients) or scenario.clients
    for key in ("wrong_captions", "rate_factors"):
        for client in getattr(scenario, key):
            if scenario.kind == "manifest":
                raise ValueError(f'scenario.{key}: not with scenario.kind = "manifest"')
            if not client.isdecimal() or int(client) >= clients:
                raise ValueError(f"scenario.{key}.{client}: no such client; they are numbered 0 to {clients - 1}")


def check_model(model: Model) -> None:
    """An instruction only where there is a chat, and a kind of projector that there is."""
    if model.prompt == "plain" and model.instruction != INSTRUCTION:
        raise ValueError('model.instruction: goes with model.prompt = "chat"; the plain format has none')
    if model.projector not in trainable_kinds():
        raise ValueError(f"model.projector = {model.projector!r}: must be one of {', '.join(trainable_kinds())}")


def check_run(run: Run) -> None:
    """Nothing is named twice."""
    if len(set(run.track)) != len(run.track):
        raise ValueError("run.track: a tracker is named twice")
    if len(set(run.methods)) != len(run.methods):
        raise ValueError("run.methods: a method is named twice")


def chosen(name: str, given: Method) -> Chosen:
    """Server rule and local objective of the federated method `name`, set as `given` says."""
    return choose(
        name,
        aggregator=given.aggregator,
        objective=given.objective,
        options=given.options,
        objective_options=given.objective_options,
    )


def check_method(name: str, given: Method | None) -> None:
    """A method that there is, under a name that can be a folder, with options that it takes."""
    place = "run.methods" if given is None else f"method.{name}"
    if not re.fullmatch(FOLDER_NAME, name):
        raise ValueError(f"{place}: {name!r} names a folder; use letters, digits, '.', '_' and '-'")
    if name in RESERVED:
        raise ValueError(f"{place}: {name!r} is a folder that every run has; choose another name")
    method = given or Method()
    if name in NOT_FEDERATED:
        if method.options or method.aggregator or method.objective or method.objective_options:
            raise ValueError(f"{place}: has no aggregator, hence no options; only learning_rate can be set")
        return
    try:
        selected = chosen(name, method)
    except ValueError as error:
        text = str(error)
        raise ValueError(
            f"{place}.{text}" if text.startswith(("aggregator:", "objective:")) else f"{place}: {text}"
        ) from error
    try:
        selected.create_aggregator()
    except (ValueError, TypeError) as error:
        raise ValueError(f"method.{name}.options: {error}") from error
    try:
        selected.create_objective()
    except (ValueError, TypeError) as error:
        raise ValueError(f"method.{name}.objective_options: {error}") from error
