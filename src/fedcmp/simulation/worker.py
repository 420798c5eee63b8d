"""A worker process: `python -m fedcmp.simulation.worker PREPARED`; jobs on stdin, results on stdout.

It ends when its stdin ends, hence also when the run is killed.
"""

import os
import sys
import traceback
from pathlib import Path

from fedcmp.errors import UserError

WORKER_RECIPE = "worker.toml"  # in the prepared folder; written at every start, as workers and cache may differ


def main() -> None:
    """Serve jobs until there are no more."""
    jobs, results = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's print must not break the protocol

    import torch
    from transformers.utils import logging

    from fedcmp.config import read_dumped
    from fedcmp.simulation.engine import Engine
    from fedcmp.simulation.frames import read_frame, write_frame

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    prepared = Path(sys.argv[1])
    engine: Engine | None = None
    while True:
        try:
            job, tensors = read_frame(jobs)
        except EOFError:
            return
        answer: dict[str, object]
        out: dict[str, torch.Tensor] = {}
        try:
            if engine is None:
                engine = Engine(read_dumped(prepared / WORKER_RECIPE), prepared)
            result, out = engine.run(job, tensors)
            answer = {"result": result}
        except UserError as error:
            answer = {"user_error": str(error)}
        except Exception:  # told by the run, in one place
            answer = {"error": traceback.format_exc()}
        try:
            write_frame(results, answer, out)
        except BrokenPipeError:  # the run was killed
            return


if __name__ == "__main__":
    main()
