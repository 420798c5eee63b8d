"""A site's resident trainer: it holds the frozen model and the pairs, and answers a server's requests.

Flower starts a process for every message; that process only hands the message on (federation/flower/client_app.py).
The trainer outlives it: the model is loaded once per run, a job goes on while nobody waits for it, and its answer is
kept until the next one. Everything that a server may ask is one of the requests of wire/site_messages.py; what the
site is willing to do is said by its own SITE.toml (willing.py).
"""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from transformers.utils import logging

from fedcmp.config import Recipe
from fedcmp.deployment.jobs import Job
from fedcmp.deployment.refusals import Declined, check_release, refusal
from fedcmp.deployment.sent_log import SentLog
from fedcmp.deployment.site_engine import SiteEngine, admission, holding, prepare_site
from fedcmp.deployment.site_file import Site, read_site
from fedcmp.deployment.site_models import keep_model
from fedcmp.deployment.site_recipe import read_server_recipe
from fedcmp.deployment.site_run import Place, SiteRun
from fedcmp.deployment.supervised import MISTAKE, MISTAKE_CODE, tell
from fedcmp.deployment.trainer_socket import TrainerSocket
from fedcmp.deployment.willing import check_accepted, check_assignment, check_judging, only_allowed, sent_names
from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.preparation.loading import Prepared, load_language
from fedcmp.runs.live import LiveFile, State
from fedcmp.terminal import log_to_stderr
from fedcmp.wire.naming import MessageError, Tensors
from fedcmp.wire.site_messages import (
    Collecting,
    Frame,
    Handover,
    Header,
    Invitation,
    Judging,
    Kept,
    NotKnown,
    Placement,
    Refusal,
    Request,
    Training,
    Working,
    job_of,
    read_answer,
    read_request,
)
from fedcmp.workers.parent import end_with_parent

_SHOW_SECONDS = 1.0  # between two writings of live.json
MOST_PATIENCE = 600.0  # seconds that one request waits for its answer


class Trainer:
    """Answers requests, from any number of threads.

    Args:
        site: SITE.toml.
        say: called with a line for the site's people.
    """

    def __init__(self, site: Site, say: Callable[[str], None] = lambda _line: None) -> None:
        self._site, self._say = site, say
        self._lock = threading.Lock()
        self._runs: dict[str, SiteRun] = {}
        self._job: Job | None = None
        self._language: tuple[str, LanguageModel] | None = None  # run -> its LLM
        self._engine: tuple[str, int, SiteEngine] | None = None  # run, position -> what trains
        self._live: LiveFile | None = None
        self._shown = time.monotonic()
        self._sent = SentLog(site.site.folder / "sent.jsonl")
        torch.set_num_threads(site.limits.threads)

    def answer(self, header: Header, tensors: Tensors) -> Frame:
        """Return the answer to one request, within its patience; whatever goes wrong, the answer says so.

        Args:
            header: of the message.
            tensors: of the message.
        """
        run = ""
        try:
            request = read_request(header, tensors)
            run = request.run
            frame = self._answer(request)
        except Exception as error:
            frame = refusal(error, self._say).to_tensors()
        return self._noted(frame, run)

    def malformed(self, error: ValueError) -> Frame:
        """Return the answer to what is no message at all."""
        return self._noted(refusal(MessageError(str(error)), self._say).to_tensors(), "")

    def _noted(self, frame: Frame, run: str) -> Frame:
        try:
            self._sent.add(frame, run=run, what=sent_names(read_answer(*frame)))
        except UserError as error:
            self._say(f"nothing is sent: {error}")
            return Refusal(reason="the site cannot write its log of what it sends", accepted=True).to_tensors()
        return frame

    def _answer(self, request: Request) -> Frame:
        with self._lock:
            run = self._runs.get(request.run) or SiteRun(self._site, request.run)
            if run.is_late(request.ticket):
                return Refusal(
                    reason="an earlier request than one that was answered: late, or replayed", accepted=True
                ).to_tensors()
            if isinstance(request, Collecting):
                if self._job is None or self._job.name != request.job:
                    return NotKnown(what="job").to_tensors()
                job = self._job
            else:
                if not isinstance(request, Invitation) and not run.known:
                    return NotKnown(what="run").to_tensors()
                if isinstance(request, Training | Judging | Handover) and run.placed is None:
                    return NotKnown(what="run").to_tensors()
                self._check(request, run)
                self._runs[request.run] = run
                job = self._job_of(request, run)
        if not job.wait(min(request.patience, MOST_PATIENCE)):
            return Working(job=job.name, steps=job.steps, of=job.of).to_tensors()
        return NotKnown(what="job").to_tensors() if job.answer is None else job.answer

    def _check(self, request: Request, run: SiteRun) -> None:
        """Refuse what this site does not do, before it begins."""
        self._check_disk()
        if isinstance(request, Invitation):
            check_release(request.release, "this site")
        text = request.recipe if isinstance(request, Invitation) else run.text()
        asked = read_server_recipe(text)
        check_accepted(asked, text, self._site)  # of a run that is under way too: SITE.toml may have changed
        if isinstance(request, Invitation):
            run.accept(text)
        if isinstance(request, Placement):
            run.check_place(_place_of(request))
        if isinstance(request, Judging):
            check_judging(asked, request.method, self._site)
        if isinstance(request, Handover) and request.method not in asked.run.methods:
            raise Declined(f"method {request.method}: is not one of the run's")
        if isinstance(request, Training):
            check_assignment(asked, request.method, request.assignment)

    def _check_disk(self) -> None:
        left = self._disk_left()
        if left is not None and left <= 0:
            raise Declined(
                f"the site's folder holds more than limits.disk_gb = {self._site.limits.disk_gb:g}: remove runs that "
                "are over, or raise the limit"
            )

    def _disk_left(self) -> int | None:
        """Bytes that the site's folder may still take; None: no limit."""
        most = self._site.limits.disk_gb
        return None if most is None else int(most * 10**9) - folder_bytes(self._site.site.folder)

    def _job_of(self, request: Request, run: SiteRun) -> Job:
        """Return the job that does what is asked, begun if it is not there."""
        assert not isinstance(request, Collecting)
        name = request.job if isinstance(request, Training | Judging | Handover) else job_of(request)
        if self._job is not None and self._job.name == name and not self._job.failed:
            return self._job
        if self._job is not None:
            self._job.supersede()
        works: dict[type, Callable[[Job], Frame]] = {
            Invitation: lambda job: self._prepare(job, run),
            Placement: lambda job: self._place(job, request, run),  # type: ignore[arg-type]
            Training: lambda job: self._train(job, request, run),  # type: ignore[arg-type]
            Judging: lambda job: self._judge(job, request, run),  # type: ignore[arg-type]
            Handover: lambda job: self._keep(job, request, run),  # type: ignore[arg-type]
        }
        self._job = Job(name, works[type(request)], self._say)
        self._job.start()
        return self._job

    def _prepare(self, job: Job, run: SiteRun) -> Frame:
        """Prepare the pairs as if no client came before: that counts them, and makes all that takes long."""
        begun = time.perf_counter()
        recipe = run.recipe()
        data = self._prepared(job, run, 0)
        language = self._llm(run, recipe)
        self._say(f"run {run.folder.name[:8]}: {len(data.train.rows):,} usable pairs, in {_since(begun)}")
        return admission(recipe, data, language).to_tensors()

    def _place(self, job: Job, request: Placement, run: SiteRun) -> Frame:
        place = _place_of(request)
        data = self._prepared(job, run, place.first_position)
        run.place(place)
        self._say(f"run {run.folder.name[:8]}: this site is client {place.client} of {request.clients}")
        return holding(data).to_tensors()

    def _train(self, job: Job, request: Training, run: SiteRun) -> Frame:
        place = self._placed(run)
        kept = run.kept_reply(request.method, job.name)
        if kept is None:
            begun = time.perf_counter()
            engine = self._loaded(job, run, place)
            job.steps, job.of = 0, engine.steps(request.assignment.round)
            self._begin_live(request, engine.recipe.federation.rounds)
            self._show("training", job)
            kept = engine.train(place.client, request.assignment, run.method(request.method))
            run.keep_reply(request.method, job.name, kept)
            self._show("done", job)
            self._say(f"{request.method}, round {request.assignment.round}: {job.steps} steps, in {_since(begun)}")
        return only_allowed(kept, self._site).to_tensors()

    def _begin_live(self, request: Training, rounds: int) -> None:
        """Say in live.json which round is trained."""
        self._live = LiveFile(self._site.site.folder, request.method, rounds, [self._site.site.name])
        self._live.open(request.assignment.round)

    def _show(self, state: State, job: Job) -> None:
        """Say in live.json how far it is."""
        if self._live is not None:
            self._live.site(self._site.site.name, state, step=job.steps, steps=job.of)
        self._shown = time.monotonic()

    def _judge(self, job: Job, request: Judging, run: SiteRun) -> Frame:
        engine = self._loaded(job, run, self._placed(run))
        return engine.judge(request.state, blind=request.blind).to_tensors()

    def _keep(self, job: Job, request: Handover, run: SiteRun) -> Frame:
        engine = self._loaded(job, run, self._placed(run))
        place = keep_model(
            engine.recipe,
            request,
            self._site.site.folder / "models" / run.folder.name[:8],
            vision_width=engine.data.vision_width,
            text_width=self._llm(run, engine.recipe).width,
        )
        self._say(f"{request.method}: what was trained is in {place}; fedcmp export {place} OUT makes a LLaVA of it")
        return Kept().to_tensors()

    def _placed(self, run: SiteRun) -> Place:
        place = run.placed
        if place is None:
            raise UserError(f"{run.folder / 'placement.json'}: gone since the request came")
        return place

    def _loaded(self, job: Job, run: SiteRun, place: Place) -> SiteEngine:
        """Return the run's model and pairs, loaded once."""
        name = run.folder.name
        if self._engine is None or self._engine[:2] != (name, place.first_position):
            self._engine = None
            recipe = run.recipe()
            engine = SiteEngine(
                recipe,
                self._prepared(job, run, place.first_position),
                self._llm(run, recipe),
                first_position=place.first_position,
                on_step=self._step,
            )
            self._engine = name, place.first_position, engine
        return self._engine[2]

    def _prepared(self, job: Job, run: SiteRun, first_position: int) -> Prepared:
        gigabytes = self._site.limits.memory_gb
        return prepare_site(
            run.recipe(),
            run.prepared(first_position),
            _counted(job),
            first_position=first_position,
            most_memory=None if gigabytes is None else int(gigabytes * 10**9),
            most_disk=self._disk_left(),
        )

    def _step(self) -> None:
        job = self._job
        if job is None:
            return
        job.step()
        if self._live is not None and time.monotonic() - self._shown > _SHOW_SECONDS:
            self._show("training", job)

    def _llm(self, run: SiteRun, recipe: Recipe) -> LanguageModel:
        name = run.folder.name
        if self._language is None or self._language[0] != name:
            self._language = self._engine = None
            begun = time.perf_counter()
            self._language = name, load_language(recipe)
            self._say(f"run {name[:8]}: model loaded, in {_since(begun)}")
        return self._language[1]


def _counted(job: Job) -> Callable[[str, int, int], None]:
    """Progress of preparing, as the job's steps."""

    def progress(_what: str, done: int, total: int) -> None:
        job.step()
        job.steps, job.of = min(done, total), total

    return progress


def _place_of(request: Placement) -> Place:
    return Place(request.client, request.first_position)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; those that go while it is read count for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(place) / name).st_size
    return total


def _since(begun: float) -> str:
    return f"{time.perf_counter() - begun:.1f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one site until told to end: `python -m fedcmp.deployment.trainer SITE.toml --socket PATH`."""
    parser = argparse.ArgumentParser(prog="python -m fedcmp.deployment.trainer")
    parser.add_argument("site", type=Path)
    parser.add_argument("--socket", type=Path, required=True)
    given = parser.parse_args(arguments)
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # what is worth keeping is on disk
    log_to_stderr()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        trainer = Trainer(read_site(given.site), tell)
        with TrainerSocket(given.socket, trainer.answer, trainer.malformed) as server:
            tell("the trainer is ready")
            server.serve_forever()
    except UserError as error:
        tell(f"{MISTAKE}{error}")  # the supervisor's words
        raise SystemExit(MISTAKE_CODE) from None


if __name__ == "__main__":
    main()
