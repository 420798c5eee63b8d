"""What training alone takes: the steps of a simulation's rounds in a bare loop, without server, wire or checkpoints.

    python benchmarks/training_limit.py RECIPE PREPARED INDEX PROCESSES     one of the processes that work side by side

Client k of every round is trained by process k mod PROCESSES, as free workers would share them out; a round takes as
long as its slowest process. simulation.py compares our rounds with that: nothing that keeps rounds can be faster.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def limit(recipe_file: Path, prepared: Path, *, processes: int) -> list[float]:
    """Return the seconds of every round: those of its slowest process."""
    started = [
        subprocess.Popen(
            [sys.executable, HERE, recipe_file, prepared, str(index), str(processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for index in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("a process of the training limit ended early")
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in started]
    return [max(seconds) for seconds in zip(*answers, strict=True)]


def main() -> None:
    recipe_file, prepared, index, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

    import torch
    from peer_work import train_one, work_of

    from fedcmp.config import read_dumped
    from fedcmp.simulation.engine import Engine

    torch.set_num_threads(1)
    recipe = read_dumped(recipe_file)
    engine = Engine(recipe, prepared)
    start = engine.vlm.trainable.tensors()
    clients = range(index, recipe.scenario.clients, processes)
    part, settings = work_of(engine, index, 0)
    train_one(engine, part, settings, start)  # libraries are warm before the clock runs
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    for number in range(recipe.federation.rounds):
        begun = time.perf_counter()
        for client in clients:
            part, settings = work_of(engine, client, number)
            train_one(engine, part, settings, start)
        seconds.append(time.perf_counter() - begun)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
