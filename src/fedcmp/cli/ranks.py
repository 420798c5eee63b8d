"""`fedcmp train` in several processes: what the others do, and who says why a run ends."""

import os
import signal
import sys
import threading

from fedcmp.cli.output import note
from fedcmp.distributed import Group
from fedcmp.errors import UserError, WorkerDied
from fedcmp.terminal import shown_lines


def serve_rank(group: Group) -> None:
    """Serve rank 0 until the run ends, as the other ranks do; raises as `crew.serve` does."""
    from fedcmp.simulation.crew import serve

    try:
        serve(group)
    except WorkerDied as error:  # perhaps it was the rank that reports everything else
        if group.speaks():
            note(f"fedcmp: {error}")
        raise


def listen_to_launcher(group: Group) -> None:
    """Say at once why torchrun ends the other ranks when one has died: any thread may wait for the dead one."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)  # written whatever the main thread waits for

    def listen() -> None:
        while os.read(heard, 1)[0] != signal.SIGTERM:
            pass
        reason = group.reason()
        error = reason or WorkerDied(
            "stopped by the launcher: another process of the run died (the launcher's report says which), or the "
            "launcher was stopped; what is finished is kept: give the same command with --resume"
        )
        if (group.rank == 0 or reason is None) and group.speaks():  # a reason is rank 0's to report
            os.write(
                sys.stderr.fileno(), f"fedcmp: {shown_lines(str(error))}\n".encode()
            )  # in the middle of another thread's print
        os._exit(2 if isinstance(error, UserError) else 1)

    threading.Thread(target=listen, daemon=True).start()
