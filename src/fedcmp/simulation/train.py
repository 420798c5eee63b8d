"""A whole run: prepare the pairs, start the workers, run every method of the recipe side by side.

A recipe with one method keeps its run in runs/NAME; with several, each has a folder of its own in there, and all use
runs/NAME/prepared. Methods share the workers: while one waits for its slowest client, another trains.
"""

import threading
from pathlib import Path

import torch

from fedcmp.config import Recipe
from fedcmp.distributed import ALONE, Group, ranks_here
from fedcmp.errors import UserError
from fedcmp.federation.rounds import Events, Rounds
from fedcmp.locks import alone_in
from fedcmp.planning.demand import Ranks
from fedcmp.planning.dtype import settle_dtype, with_dtype
from fedcmp.planning.preflight import plan_run
from fedcmp.preparation.loading import initial_trainable, load_text
from fedcmp.preparation.sources import Progress
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.place import check_place
from fedcmp.simulation.crew import Crew, crew_of
from fedcmp.simulation.evaluate import References
from fedcmp.simulation.method_run import method_run
from fedcmp.simulation.pool import Pool, Stopped
from fedcmp.simulation.preparing import prepare_at, preparing, recipe_text
from fedcmp.simulation.processes import start_workers
from fedcmp.simulation.tracked import Tracked
from fedcmp.tracking.trackers import require_trackers
from fedcmp.workers.processes import WorkerProcesses


def method_folders(recipe: Recipe) -> dict[str, RunFolder]:
    """Return where each method's run is kept."""
    folder = recipe.run.place
    if len(recipe.run.methods) == 1:
        return {recipe.run.methods[0]: RunFolder(folder)}
    return {method: RunFolder(folder / method) for method in recipe.run.methods}


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    events: Events | None = None,
    progress: Progress,
    group: Group = ALONE,
    processes: WorkerProcesses | None = None,
) -> Path:
    """Run all methods of a recipe to their end.

    Args:
        recipe: what to run.
        resume: continue a run that was interrupted; the recipe must be the same.
        overwrite: remove an earlier run of the same name first.
        events: receives what learners finish.
        progress: receives what is prepared, how much of it, out of how much.
        group: the ranks that train every client together: this is called on rank 0, `crew.serve` on the others.
        processes: the recipe's workers, where they were started ahead; they are ended with the run.

    Returns:
        The run's folder.

    Raises:
        UserError: a run of that name exists (and neither option is given), or does not fit; unusable data or models;
            more memory or disk is needed than there is.
    """
    recipe.check_own_pairs()
    folder, folders = recipe.run.place, method_folders(recipe)
    require_trackers(list(recipe.run.track))
    taken = f"{folder}: another process is running this; wait for it, or give another run.name"
    with alone_in(folder, taken), preparing(folder) as fresh:
        ranks = Ranks(group.size, ranks_here())
        begun = folder / "recipe.toml" if resume and (folder / "recipe.toml").exists() else None
        check_place(recipe, resume=resume, overwrite=overwrite)
        fresh.mkdir(parents=True, exist_ok=True)
        if recipe.model.dtype == "auto" and begun is None:  # the probe loads the LLM in float32
            probed = plan_run(recipe, ranks=ranks, insist=True, progress=progress)
            if recipe.run.preflight == "refuse":
                probed.check()
        recipe = settle_dtype(recipe, begun)
        events = events or Events()
        finished = resume and all(kept.finished for kept in folders.values())
        with crew_of(group, recipe) as crew:
            if not finished:
                plan = plan_run(recipe, ranks=ranks, insist=True, progress=progress)
                events.planned(plan.lines, plan.misfits)
                if recipe.run.preflight == "refuse":
                    plan.check()
            count = 0 if crew is not None or finished else recipe.run.workers
            with processes or start_workers(count, folder / "prepared") as started:
                return _train(
                    recipe,
                    folder,
                    folders,
                    fresh,
                    resume=begun is not None,
                    events=events,
                    progress=progress,
                    crew=crew,
                    processes=started,
                )


def _train(
    recipe: Recipe,
    folder: Path,
    folders: dict[str, RunFolder],
    fresh: Path,
    *,
    resume: bool,
    events: Events,
    progress: Progress,
    crew: Crew | None,
    processes: WorkerProcesses,
) -> Path:
    data = prepare_at(folder, fresh, recipe, resume=resume, progress=progress, crew=crew)
    torch.set_num_threads(1)  # from here on the workers are busy; results must not depend on their number either
    text = load_text(recipe)
    initial = initial_trainable(recipe, data.vision_width, text.width).tensors()
    for method, kept in folders.items():
        if not kept.begun:
            kept.begin(recipe_text(recipe, data, method))
    if all(kept.finished for kept in folders.values()):
        return folder
    prepared = folder / "prepared"
    with Tracked(recipe, folders, events) as tracked, Pool(recipe, prepared, crew=crew, processes=processes) as pool:
        shared = References()
        runs = [
            method_run(method, recipe, data, initial, pool, kept, prepared, tracked, shared=shared)
            for method, kept in folders.items()
        ]
        _run_side_by_side(runs, pool, resume=resume, dtype=recipe.model.dtype)
    return folder


def _run_side_by_side(runs: list[Rounds], pool: Pool, *, resume: bool, dtype: str) -> None:
    """A method with a user's mistake stops alone, the others continue; anything else stops all of them."""
    mistakes: list[UserError] = []
    failures: list[BaseException] = []

    def run_one(run: Rounds) -> None:
        try:
            run.run(resume=resume)
        except Stopped:
            pass
        except UserError as error:
            mistakes.append(error)
        except BaseException as error:  # raised again below, in the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=run_one, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads) and not failures:
            for thread in threads:
                thread.join(0.1)
    finally:
        if any(thread.is_alive() for thread in threads):  # a failure or Ctrl-C
            pool.close()
            for thread in threads:
                thread.join()
    for error in [*failures, *mistakes]:
        raise with_dtype(error, dtype)
