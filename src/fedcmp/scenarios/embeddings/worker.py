"""A worker that embeds batches: `python -m fedcmp.scenarios.embeddings.worker`; frames on stdin and stdout.

The first frame says which model; each later one is a batch, and its vectors go back; one without captions is the last.
The worker ends at once when its stdin ends, hence also in the middle of a batch when the command is killed.
"""

import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

Frames = queue.Queue[tuple[dict[str, Any], bytes]]


def main() -> None:
    """Serve batches until there are no more."""
    # not sys.stdin.buffer: a thread that waits in that is fatal when Python ends
    incoming, answers = os.fdopen(os.dup(sys.stdin.fileno()), "rb"), os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's print must not break the protocol

    import torch
    from transformers.utils import logging

    from fedcmp.errors import UserError
    from fedcmp.model.dual_encoder import DualEncoder
    from fedcmp.scenarios.embeddings.batches import Batch, Embedder, batch_from, send_vectors

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    frames: Frames = queue.Queue()
    threading.Thread(target=_read, args=(incoming, frames), daemon=True).start()

    def batches() -> Iterator[Batch]:
        while (frame := frames.get())[0]:
            yield batch_from(*frame)

    with suppress(BrokenPipeError):  # the command was killed
        try:
            setup, _ = frames.get()
            model = DualEncoder(setup["model"], dtype=setup["dtype"], device=setup["device"], key=setup["key"])
            for vectors in Embedder(model, max_pixels=setup["max_pixels"], threads=setup["threads"]).embed(batches()):
                send_vectors(answers, vectors)
        except UserError as error:
            _tell(answers, user_error=str(error))
        except Exception:  # told by the command, in one place
            _tell(answers, error=traceback.format_exc())


def _tell(answers: IO[bytes], **problem: str) -> None:
    """Send the problem, and wait until it is read: the command may be writing a batch, which must not fail first."""
    from fedcmp.scenarios.embeddings.batches import send

    send(answers, problem)
    threading.Event().wait()


def _read(stream: IO[bytes], frames: Frames) -> None:
    from fedcmp.scenarios.embeddings.batches import receive

    while True:
        try:
            frames.put(receive(stream))
        except EOFError:
            os._exit(0)


if __name__ == "__main__":
    main()
