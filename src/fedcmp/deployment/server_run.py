"""A server's whole run: who takes part, then every method of the recipe, one after the other, through the same rounds
that a simulation runs (federation/rounds.py).

    FOLDER/recipe.toml, sites.json     the run; its members (register.py)
    FOLDER/METHOD/...                  each method's run, as runs/folder.py has it; of one method, FOLDER itself
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fedcmp.checksums import sealed_toml
from fedcmp.config import Recipe, dump_recipe
from fedcmp.deployment.courier import SitesCourier
from fedcmp.deployment.edge_link import EdgeLink
from fedcmp.deployment.invitation import check_deployable, invitation_recipe
from fedcmp.deployment.register import Register
from fedcmp.deployment.server_judge import server_evaluators
from fedcmp.deployment.site_evaluator import NoEvaluator, SitesEvaluator
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.sites import Sites
from fedcmp.deployment.transport import SitesTransport, hand_over
from fedcmp.errors import UserError, counted
from fedcmp.federation.arrivals import Arrivals
from fedcmp.federation.buffered import Buffered
from fedcmp.federation.edge import check_sums
from fedcmp.federation.flower.link import Link
from fedcmp.federation.rounds import Evaluator, Events, Rounds, Side, Transport
from fedcmp.federation.server import ServerSide
from fedcmp.files import write_whole
from fedcmp.locks import alone_in
from fedcmp.model.sizes import LanguageSize, UnknownSizeError, VisionSize, language_size, vision_size
from fedcmp.planning.machine import describe_machine
from fedcmp.preparation.batches import learning_rate
from fedcmp.preparation.loading import initial_trainable
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.live import LiveFile
from fedcmp.runs.place import check_place
from fedcmp.runs.record_files import read_records
from fedcmp.runs.records import AnyRecord, ClientData, Evaluation, PairsRead, RunRecord, timestamp
from fedcmp.runs.versions import versions
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_messages import Admission

HANDOVER_SECONDS = 600.0  # that sites have to take what was trained, where the recipe names no deadline


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
    for method in recipe.run.methods if recipe.deployment.edges else []:
        check_sums(method, recipe.chosen(method).create_aggregator())
    folder, names = recipe.run.place, recipe.deployment.sites
    torch.set_num_threads(1)  # bits must not depend on the machine's cores
    with alone_in(folder, f"{folder}: another process is running this; wait for it, or give another run.name"):
        check_place(recipe, resume=resume, overwrite=False)
        text = dump_recipe(recipe, versions=versions())
        single = len(recipe.run.methods) == 1
        folders = {m: RunFolder(folder if single else folder / m) for m in recipe.run.methods}
        register = Register(folder / "sites.json", names)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume and not single:
            write_whole(folder / "recipe.toml", sealed_toml(text).encode())
        for method, kept in folders.items():
            if not kept.begun:
                own = recipe.model_copy(update={"run": recipe.run.model_copy(update={"methods": [method]})})
                kept.begin(dump_recipe(own, versions=versions()))
        register.begin()
        notes = SiteNotes(names, say)
        sites = Sites(
            EdgeLink(link, recipe.deployment.edges) if recipe.deployment.edges else link,
            register,
            invitation_recipe(recipe),
            poll_seconds=recipe.deployment.poll_seconds,
            note=notes.note,
            progress=notes.progress,
            clock=clock,
            sleep=sleep,
            pause=pause,
        )
        with _evaluators(recipe, sites, clock) as evaluator:
            _admit(sites, recipe, say)
            for method, kept in folders.items():
                live = LiveFile(kept.path, method, recipe.federation.rounds, names)
                notes.follow(live)
                judge = evaluator(method, kept.path)
                _rounds(method, recipe, sites, notes, kept, events or Events(), judge, clock).run(resume=resume)
                hand_over(method, sites, kept.last(), seconds=recipe.federation.deadline or HANDOVER_SECONDS)
                live.close()
                notes.follow(None)
    return folder


@contextmanager
def _evaluators(recipe: Recipe, sites: Sites, clock: Callable[[], float]) -> Iterator[Callable[[str, Path], Evaluator]]:
    """What makes a method's evaluator, as deployment.judge says."""
    if recipe.deployment.judge == "server":
        with server_evaluators(recipe, recipe.run.place / "prepared", lambda *_: None) as make:
            yield make
    elif recipe.deployment.judge == "sites":
        seconds, shared = recipe.federation.deadline, list[Evaluation]()
        yield lambda method, _: SitesEvaluator(method, sites, seconds=seconds, clock=clock, shared=shared)
    else:
        yield lambda *_: NoEvaluator()


def _admit(sites: Sites, recipe: Recipe, say: Callable[[str], None]) -> None:
    seconds, register = recipe.deployment.start_seconds, sites.register
    least = max(1, recipe.federation.min_clients)
    sites.admit(seconds=seconds, least=least)
    there = [register.names[client] for client, member in sorted(register.members.items()) if member.holding]
    came = len(there) if len(register.members) >= least else len(register.members)
    if came < least:
        raise UserError(
            f"{counted(came, 'site')} of {len(register.names)} take part, federation.min_clients = "
            f"{recipe.federation.min_clients}: start the others with `fedcmp join`, then go on with --resume"
        )
    _check_models(recipe, next(iter(register.members.values())).admission)
    say(f"{len(there)} of {counted(len(register.names), 'site')} take part: {', '.join(there)}")


def _check_models(recipe: Recipe, admission: Admission) -> None:
    """Refuse a recipe whose [model] is not what the sites have, as far as widths tell: report and export go by it.

    Raises:
        UserError: names the key.
    """
    model = recipe.model
    sizes: list[tuple[str, str, int, Callable[[], VisionSize | LanguageSize]]] = [
        ("vision", model.vision, admission.vision_width, lambda: vision_size(model.vision, layer=model.vision_layer)),
        ("language", model.language, admission.text_width, lambda: language_size(model.language)),
    ]
    for part, name, width, size in sizes:
        try:
            own = size().width
        except (UnknownSizeError, UserError):  # it is not on this machine: the sites' word counts
            continue
        if own != width:
            raise UserError(
                f"model.{part} = {name!r}: is {own} wide, the sites' is {width}: name the model that the sites have; "
                "the report and the export of this run go by it"
            )


def _rounds(
    method: str,
    recipe: Recipe,
    sites: Sites,
    notes: SiteNotes,
    folder: RunFolder,
    events: Events,
    evaluator: Evaluator,
    clock: Callable[[], float],
) -> Rounds:
    register = sites.register
    first = next(iter(register.members.values())).admission
    initial = initial_trainable(recipe, first.vision_width, first.text_width).tensors()
    rate = _rate(method, recipe, register, folder)
    side, transport, rounds = _halves(method, recipe, sites, notes, folder, events, initial, rate, clock)
    return Rounds(
        method,
        recipe,
        side,
        transport,
        evaluator,
        folder,
        first_records=[_run_record(method, recipe, rate, initial, rounds), *_held(register)],
        events=events,
        notes=notes.drain,
        rounds=rounds,
    )


def _halves(
    method: str,
    recipe: Recipe,
    sites: Sites,
    notes: SiteNotes,
    folder: RunFolder,
    events: Events,
    initial: Tensors,
    rate: float,
    clock: Callable[[], float],
) -> tuple[Side, Transport, int]:
    """The server's half of the rounds, what carries its assignments, and how many rounds (or merges) there will be."""
    names, waiting, chosen = sites.register.names, folder.path / "waiting", recipe.chosen(method)

    def heard(reply: Reply, clients: int) -> None:
        events.client_done(method, reply.round, reply.client, clients, reply.figures.get("loss", math.nan))

    def heard_part(reply: Reply, done: int, parts: int) -> None:
        events.part_done(method, done, parts, reply.client, reply.figures.get("loss", math.nan))

    if recipe.federation.mode == "async":
        buffered = Buffered(method, chosen, recipe, names, initial, waiting, rate, heard_part)
        return buffered, Arrivals(buffered, SitesCourier(method, sites, notes, clock=clock)), buffered.rounds
    side = ServerSide(method, chosen, recipe, names, initial, waiting, rate, heard)
    transport = SitesTransport(
        method,
        chosen,
        sites,
        notes,
        edges=recipe.deployment.edges,
        public=side.aggregator.public,
        least=recipe.federation.min_clients,
        clock=clock,
    )
    return side, transport, recipe.federation.rounds


def _rate(method: str, recipe: Recipe, register: Register, folder: RunFolder) -> float:
    """The method's rate; once it is recorded it stays, whoever joins later."""
    for record in read_records(folder.metrics):
        if isinstance(record, RunRecord) and record.learning_rate is not None:
            return record.learning_rate
    return learning_rate(method, recipe, register.pairs)


def _run_record(method: str, recipe: Recipe, rate: float, initial: Tensors, rounds: int) -> RunRecord:
    return RunRecord(
        method=method,
        federated=True,
        rounds=rounds,
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
