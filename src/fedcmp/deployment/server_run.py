"""A server's whole run: who takes part, then every method of the recipe, one after the other, through the same rounds
that a simulation runs (federation/rounds.py).

    FOLDER/recipe.toml, sites.json     the run; its members (register.py)
    FOLDER/METHOD/...                  each method's run, as runs/folder.py has it; of one method, FOLDER itself
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fedcmp.checksums import sealed_toml
from fedcmp.config import Recipe, dump_recipe
from fedcmp.config.sections import Data, Model, Run, Scenario
from fedcmp.deployment.register import Register
from fedcmp.deployment.server_judge import server_evaluators
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.sites import Sites
from fedcmp.deployment.transport import NoEvaluator, SitesEvaluator, SitesTransport
from fedcmp.errors import UserError, counted
from fedcmp.federation.flower.link import Link
from fedcmp.federation.rounds import Evaluator, Events, Rounds
from fedcmp.federation.server import ServerSide
from fedcmp.files import write_whole
from fedcmp.locks import alone_in
from fedcmp.planning.machine import describe_machine
from fedcmp.preparation.batches import learning_rate
from fedcmp.preparation.loading import initial_trainable
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.live import LiveFile
from fedcmp.runs.place import check_place
from fedcmp.runs.record_files import read_records
from fedcmp.runs.records import AnyRecord, ClientData, PairsRead, RunRecord, timestamp
from fedcmp.runs.versions import versions
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors


def invitation_recipe(recipe: Recipe) -> str:
    """Return what the sites are sent of a recipe: nothing that names a path or a model of the server's."""
    sent = Recipe(
        run=Run(seed=recipe.run.seed, methods=recipe.run.methods),
        model=Model(**recipe.model.model_dump(exclude={"vision", "language", "projector_from", "device", "compile"})),
        data=Data(
            num_pairs=1,
            **recipe.data.model_dump(
                include={"train_share", "held_out", "max_caption_tokens", "max_unknown_fraction", "feature_dtype"}
            ),
        ),
        scenario=Scenario(
            clients=len(recipe.deployment.sites), max_missing_fraction=recipe.scenario.max_missing_fraction
        ),
        federation=recipe.federation,
        training=recipe.training,
        evaluation=recipe.evaluation.model_copy(update={"questions": None}),
        method=recipe.method,
        deployment=recipe.deployment,
    )
    return dump_recipe(sent)


def check_deployable(recipe: Recipe) -> None:
    """Refuse what only a simulation can do.

    Raises:
        UserError: names the key.
    """
    if not recipe.deployment.sites:
        raise UserError("deployment.sites: missing; name the sites that take part, in an order that stays")
    for method in recipe.run.methods:
        if not is_federated(method):
            raise UserError(
                f"run.methods: {method} has no server, so no federation can run it; leave it out, or simulate it"
            )
    for key in ("wrong_captions", "rate_factors"):
        if getattr(recipe.scenario, key):
            raise UserError(f"scenario.{key}: imitates clients in a simulation; leave it out")


def run_server(
    recipe: Recipe,
    link: Link,
    *,
    resume: bool,
    say: Callable[[str], None],
    events: Events | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    pause: float = 0.5,
) -> Path:
    """Run all methods of a recipe between sites.

    Args:
        recipe: what to run.
        link: carries frames to the sites and back.
        resume: continue the run that is in the folder; there must be one.
        say: called with a line for the server's people.
        events: receives what learners finish.
        clock, sleep, pause: of Sites.

    Returns:
        The run's folder.

    Raises:
        UserError: a run is there and is not to be resumed, or none is; too few sites take part; a rule cannot go on.
    """
    check_deployable(recipe)
    folder, names = recipe.run.place, recipe.deployment.sites
    torch.set_num_threads(1)  # bits must not depend on the machine's cores
    with alone_in(folder, f"{folder}: another process is running this; wait for it, or give another run.name"):
        check_place(recipe, resume=resume, overwrite=False)
        text = dump_recipe(recipe, versions=versions())
        single = len(recipe.run.methods) == 1
        folders = {m: RunFolder(folder if single else folder / m) for m in recipe.run.methods}
        register = Register(folder / "sites.json", names)
        if not resume and not single:
            write_whole(folder / "recipe.toml", sealed_toml(text).encode())
        for method, kept in folders.items():
            if not kept.begun:
                own = recipe.model_copy(update={"run": recipe.run.model_copy(update={"methods": [method]})})
                kept.begin(dump_recipe(own, versions=versions()))
        register.begin()
        notes = SiteNotes(names, say)
        sites = Sites(
            link,
            register,
            invitation_recipe(recipe),
            poll_seconds=recipe.deployment.poll_seconds,
            note=notes.note,
            progress=notes.progress,
            clock=clock,
            sleep=sleep,
            pause=pause,
        )
        with _evaluators(recipe, sites, notes, clock) as evaluator:
            _admit(sites, recipe, say, clock)
            for method, kept in folders.items():
                live = LiveFile(kept.path, method, recipe.federation.rounds, names)
                notes.follow(live)
                transport = SitesTransport(method, sites, notes, least=recipe.federation.min_clients, clock=clock)
                judge = evaluator(method, kept.path)
                _rounds(method, recipe, sites, notes, kept, events or Events(), judge, transport).run(resume=resume)
                live.close()
                notes.follow(None)
    return folder


@contextmanager
def _evaluators(
    recipe: Recipe, sites: Sites, notes: SiteNotes, clock: Callable[[], float]
) -> Iterator[Callable[[str, Path], Evaluator]]:
    """What makes a method's evaluator, as deployment.judge says."""
    if recipe.deployment.judge == "server":
        with server_evaluators(recipe, recipe.run.place / "prepared", lambda *_: None) as make:
            yield make
    elif recipe.deployment.judge == "sites":
        seconds = recipe.federation.deadline
        yield lambda method, _: SitesEvaluator(method, sites, notes, seconds=seconds, clock=clock)
    else:
        yield lambda *_: NoEvaluator()


def _admit(sites: Sites, recipe: Recipe, say: Callable[[str], None], clock: Callable[[], float]) -> None:
    seconds, register = recipe.deployment.start_seconds, sites.register
    sites.admit(until=None if seconds is None else clock() + seconds)
    there = [register.names[client] for client, member in sorted(register.members.items()) if member.holding]
    if len(there) < max(1, recipe.federation.min_clients):
        raise UserError(
            f"{counted(len(there), 'site')} of {len(register.names)} take part, federation.min_clients = "
            f"{recipe.federation.min_clients}: start the others with `fedcmp join`, then go on with --resume"
        )
    say(f"{len(there)} of {counted(len(register.names), 'site')} take part: {', '.join(there)}")


def _rounds(
    method: str,
    recipe: Recipe,
    sites: Sites,
    notes: SiteNotes,
    folder: RunFolder,
    events: Events,
    evaluator: Evaluator,
    transport: SitesTransport,
) -> Rounds:
    register = sites.register
    first = next(iter(register.members.values())).admission
    initial = initial_trainable(recipe, first.vision_width, first.text_width).tensors()
    rate = _rate(method, recipe, register, folder)

    def heard(reply: Reply, clients: int) -> None:
        events.client_done(method, reply.round, reply.client, clients, reply.figures.get("loss", float("nan")))

    side = ServerSide(
        method, recipe.chosen(method), recipe, register.names, initial, folder.path / "waiting", rate, heard
    )
    return Rounds(
        method,
        recipe,
        side,
        transport,
        evaluator,
        folder,
        first_records=[_run_record(method, recipe, rate, initial), *_held(register)],
        events=events,
        notes=notes.drain,
    )


def _rate(method: str, recipe: Recipe, register: Register, folder: RunFolder) -> float:
    """The method's rate; once it is recorded it stays, whoever joins later."""
    for record in read_records(folder.metrics):
        if isinstance(record, RunRecord) and record.learning_rate is not None:
            return record.learning_rate
    return learning_rate(method, recipe, register.pairs)


def _run_record(method: str, recipe: Recipe, rate: float, initial: Tensors) -> RunRecord:
    return RunRecord(
        method=method,
        federated=True,
        rounds=recipe.federation.rounds,
        clients=len(recipe.deployment.sites),
        seed=recipe.run.seed,
        learning_rate=rate,
        versions=versions(),
        started=timestamp(),
        machine=describe_machine(),
        parameters=sum(tensor.numel() for tensor in initial.values()),
    )


def _held(register: Register) -> list[AnyRecord]:
    """What each site holds, as a simulation's records have it."""
    records: list[AnyRecord] = []
    for client, member in sorted(register.members.items()):
        held, name = member.holding, register.names[client]
        if held is None:
            continue
        records += [PairsRead(name=name, **account.model_dump(exclude={"version"})) for account in held.pairs]
        records.append(
            ClientData(
                client=client,
                client_name=name,
                num_pairs=held.train,
                bad_pairs=held.bad_pairs,
                wrong_captions=0,
                groups=held.groups,
                missing_pairs=held.missing_pairs,
            )
        )
    return records
