"""What worker processes of every kind have in common."""

import os


def worker_variables() -> dict[str, str]:
    """The environment of a process that is one of several side by side: one thread each."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
