"""A worker process: `python -m fedcmp.simulation.worker RECIPE PREPARED`; jobs on stdin, results on stdout.

It ends when its stdin ends, hence also when the run is killed.
"""

import os
import signal
import sys
from pathlib import Path

from fedcmp.errors import UserError


def main() -> None:
    """Serve jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    jobs, results = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's print must not break the protocol

    from transformers.utils import logging

    from fedcmp.config import parse_recipe
    from fedcmp.simulation.engine import Engine
    from fedcmp.simulation.frames import read_frame, write_frame

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    engine: Engine | None = None
    while True:
        try:
            job, tensors = read_frame(jobs)
        except EOFError:
            return
        try:
            if engine is None:
                import tomllib

                content = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
                content.pop("versions", None)
                engine = Engine(parse_recipe(content, sys.argv[1]), Path(sys.argv[2]))
            result, out = engine.run(job, tensors)
            write_frame(results, {"result": result}, out)
        except UserError as error:
            write_frame(results, {"user_error": str(error)}, {})


if __name__ == "__main__":
    main()
