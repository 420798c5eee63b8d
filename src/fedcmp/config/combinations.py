"""What the keys of a recipe must be together. Each check raises ValueError with the key in front."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from fedcmp.config.catalogue import projectors
from fedcmp.config.methods import Chosen, choose, choose_alone
from fedcmp.config.sections import (
    FOLDER_NAME,
    Data,
    Deployment,
    Evaluation,
    Federation,
    Method,
    Model,
    Run,
    Scenario,
)
from fedcmp.model.prompts import IMAGE_TOKEN, INSTRUCTION
from fedcmp.references import is_federated

RESERVED = ("prepared", "report", "evaluations")  # folders of a run, alongside those of its methods


_ALONE = Deployment()  # no sites: every client's pairs are on this machine


def check_data(data: Data, evaluation: Evaluation, deployment: Deployment = _ALONE) -> None:
    """Check that pairs come from one place, and that questions fit them; those of a deployment are at its sites."""
    if data.format == "world":
        if data.pairs or data.clients or data.images:
            raise ValueError(
                "data.pairs: the embedded world makes its own pairs; set data.format to llava, webdataset or parquet"
            )
        if data.num_pairs is None and not deployment.sites:
            raise ValueError("data.num_pairs: say how many pairs of the embedded world to use, for example 12000")
        if evaluation.questions:
            raise ValueError(
                "evaluation.questions: the embedded world asks its own questions; "
                "evaluation.questions_per_kind says how many"
            )
    elif data.world != "embedded":
        raise ValueError(f'data.world = "{data.world}": goes with data.format = "world"; leave it out')
    elif not data.pairs and not data.clients and not deployment.sites:
        raise ValueError("data.pairs: missing; name the JSON, JSONL, tar or parquet files, or give [[data.clients]]")
    if data.pairs and data.clients:
        raise ValueError("data.clients: give either data.pairs or [[data.clients]], not both")
    if data.clients and data.num_pairs is not None:
        raise ValueError("data.num_pairs: not with [[data.clients]]; give each client its own files, cut as you wish")
    check_distinct("data.clients", "clients", [client.name for client in data.clients])
    owners = [("data", data.pairs), *((f"data.clients.{n}", client.pairs) for n, client in enumerate(data.clients))]
    for place, pairs in owners:
        given = [str(path) for path in pairs] if isinstance(pairs, list) else []
        if isinstance(pairs, list) and not given:
            raise ValueError(f"{place}.pairs: names no file; give at least one")
        if twice := next((path for path, count in Counter(given).items() if count > 1), None):
            raise ValueError(f"{place}.pairs: names {twice!r} twice; its pairs would be trained on twice")


def check_scenario(scenario: Scenario, data: Data, deployment: Deployment = _ALONE) -> None:
    """Check that these pairs can be divided so, and that the clients that are named exist."""
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
    clients = count_clients(scenario, data, deployment)
    for key in ("wrong_captions", "rate_factors"):
        for client in getattr(scenario, key):
            if scenario.kind == "manifest":
                raise ValueError(f'scenario.{key}: not with scenario.kind = "manifest"')
            if not re.fullmatch(r"0|[1-9][0-9]{0,9}", client) or int(client) >= clients:
                raise ValueError(f"scenario.{key}.{client}: no such client; they are numbered 0 to {clients - 1}")
    seconds = scenario.client_seconds
    if seconds and scenario.kind != "manifest" and len(seconds) != clients:
        raise ValueError(f"scenario.client_seconds: {len(seconds)} numbers for {clients} clients; give one for each")
    if scenario.clock == "real" and not seconds:
        raise ValueError('scenario.clock = "real": goes with scenario.client_seconds, which says how long clients take')


def check_federation(federation: Federation, scenario: Scenario, data: Data, deployment: Deployment = _ALONE) -> None:
    """Check that as many clients can take part as the server asks for."""
    if scenario.kind == "manifest" and not deployment.sites:  # which says how many clients there are
        return
    clients = count_clients(scenario, data, deployment)
    if federation.mode == "async":
        merged = federation.replies_per_merge(clients)
        if federation.min_clients > merged:
            raise ValueError(
                f"federation.min_clients = {federation.min_clients}: more than the {merged} replies of a merge; lower "
                "it, or raise federation.buffer_size"
            )
        return
    taking_part = max(1, round(federation.participation * clients))
    if federation.min_clients > taking_part:
        raise ValueError(
            f"federation.min_clients = {federation.min_clients}: more than the {taking_part} of {clients} clients that "
            "take part in a round; lower it"
        )


def check_deployment(deployment: Deployment, data: Data) -> None:
    """Check that no site is named twice, and that clients with pairs of their own are the sites."""
    if twice := next((name for name, count in Counter(deployment.sites).items() if count > 1), None):
        raise ValueError(f"deployment.sites: names {twice!r} twice")
    check_distinct("deployment.sites", "sites", deployment.sites)
    beneath: Counter[str] = Counter()
    for edge, sites in deployment.edges.items():
        if edge in deployment.sites:
            raise ValueError(f"deployment.edges: {edge!r} is a site's name; an edge server needs one of its own")
        if unknown := next((name for name in sites if name not in deployment.sites), None):
            raise ValueError(f"deployment.edges.{edge}: {unknown!r} is not one of deployment.sites")
        beneath.update(sites)
    if twice := next((name for name, count in beneath.items() if count > 1), None):
        raise ValueError(f"deployment.edges: names {twice!r} twice; a site connects to one server")
    if deployment.sites and data.clients and [client.name for client in data.clients] != deployment.sites:
        raise ValueError(
            "data.clients: must have the names of deployment.sites, in that order; or leave [[data.clients]] out, for "
            "sites name their own pairs"
        )
    if deployment.judge == "server" and deployment.sites:
        try:
            check_own_pairs(data)
        except ValueError:
            raise ValueError(
                'deployment.judge = "server": needs pairs of the server\'s own in [data]; or let the sites judge'
            ) from None


def check_own_pairs(data: Data) -> None:
    """Check that pairs are on this machine."""
    if not data.clients and not data.pairs and not (data.format == "world" and data.num_pairs):
        raise ValueError(
            "data: names no pairs, for those of deployment.sites are at the sites: run it with `fedcmp serve`; to "
            "simulate it, add [data]"
        )


def count_clients(scenario: Scenario, data: Data, deployment: Deployment) -> int:
    """Return how many clients a recipe has: its sites, else those with pairs of their own, else as many as it says."""
    return len(deployment.sites) or len(data.clients) or scenario.clients


def check_asynchronous(federation: Federation, run: Run, deployment: Deployment, chosen: Mapping[str, Chosen]) -> None:
    """Check what clients that wait for nobody need, and that nothing is set for them where there are none.

    Args:
        federation: its mode, among others.
        run: how clients are trained together.
        deployment: its edge servers.
        chosen: federated methods of the recipe -> what they stand for.
    """
    if deployment.edges and federation.mode == "async":
        raise ValueError(
            'federation.mode = "async": not with deployment.edges, which sum the replies of one round; leave out either'
        )
    if federation.mode == "sync":
        if federation.buffer_size is not None:
            raise ValueError('federation.buffer_size: goes with federation.mode = "async"; leave it out')
        return
    for name, method in chosen.items():
        if why := method.synchronous:
            raise ValueError(
                f'federation.mode = "async": {name} needs synchronous rounds, for {why}; leave it out of run.methods, '
                'or set federation.mode = "sync"'
            )
    if run.cohort > 1:
        raise ValueError(
            f"run.cohort = {run.cohort}: asynchronous clients start at different times and train one by one; set it to "
            "1, or leave it out"
        )


def check_model(model: Model) -> None:
    """Check the texts around an image, the kind of projector and the encoder's layers."""
    if model.prompt == "plain" and model.instruction != INSTRUCTION:
        raise ValueError('model.instruction: goes with model.prompt = "chat"; the plain format has none')
    for key in ("separator", "instruction"):
        if IMAGE_TOKEN in (getattr(model, key) or ""):
            raise ValueError(f"model.{key}: {IMAGE_TOKEN} stands for the image itself; leave it out")
    if model.projector not in projectors():
        raise ValueError(f"model.projector = {model.projector!r}: must be one of {', '.join(projectors())}")


def check_run(run: Run, methods: Iterable[str]) -> None:
    """Check that nothing is named twice."""
    if len(set(run.track)) != len(run.track):
        raise ValueError("run.track: a tracker is named twice")
    if len(set(run.methods)) != len(run.methods):
        raise ValueError("run.methods: a method is named twice")
    check_distinct("method", "methods", dict.fromkeys([*run.methods, *methods]))


def check_distinct(place: str, what: str, names: Iterable[str]) -> None:
    """Refuse equal names, in any case of letters: they become folders, and some disks ignore case."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other is not name:
            how = "the same name" if other == name else f"names that differ only in case, {other!r} and {name!r}"
            raise ValueError(f"{place}: two {what} have {how}; choose another one")


def chosen(name: str, given: Method) -> Chosen:
    """Return the server rule, local objective and step of the method `name`, set as `given` says; see choose_alone."""
    if not is_federated(name):
        return choose_alone(name, step=given.step, step_options=given.step_options)
    return choose(
        name,
        aggregator=given.aggregator,
        objective=given.objective,
        options=given.options,
        objective_options=given.objective_options,
        step=given.step,
        step_options=given.step_options,
    )


def check_method(name: str, given: Method | None) -> None:
    """Check that a method exists, that its name can be a folder's, and that it has the options that are set."""
    place = "run.methods" if given is None else f"method.{name}"
    if not re.fullmatch(FOLDER_NAME, name):
        raise ValueError(f"{place}: {name!r} names a folder; use letters, digits, '.', '_' and '-'")
    if name.casefold() in RESERVED:
        raise ValueError(f"{place}: {name!r} is a folder that every run has; choose another name")
    method = given or Method()
    if not is_federated(name) and (method.options or method.aggregator or method.objective or method.objective_options):
        raise ValueError(f"{place}: has no aggregator, hence no options; only learning_rate and its step can be set")
    try:
        chosen(name, method)
    except ValueError as error:
        raise ValueError(f"{place}{_joint(str(error))}{error}") from error


def check_option_values(name: str, given: Method) -> None:
    """Check what the options are set to, by making rule, objective and step: torch is loaded where any is set."""
    if not (given.options or given.objective_options or given.step_options):
        return
    selected = chosen(name, given)
    try:
        selected.create_step()
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"method.{name}.step_options: {error}") from error
    if not is_federated(name):
        return
    try:
        selected.create_aggregator()
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"method.{name}.options: {error}") from error
    try:
        selected.create_objective()
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"method.{name}.objective_options: {error}") from error


def _joint(message: str) -> str:
    """Return what stands between a method's place and a message, which may begin with one of the method's keys."""
    keys = ("aggregator:", "objective:", "options:", "objective_options:", "step:", "step_options:")
    return "." if message.startswith(keys) else ": "
