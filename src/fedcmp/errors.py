"""What the command line tells in one line: the user's mistakes (exit code 2) and workers that failed (exit code 1)."""


class UserError(Exception):
    """Something the user can mend: a recipe key, a file, a folder, an option.

    The message is one line: the place, what is wrong there, and how to mend it.
    """


class MethodFailed(UserError):  # noqa: N818 - says what happened
    """What a method trained is of no use: it is not finite, or the server's rule refuses it.

    Args:
        method: which one.
        message: the line.
    """

    def __init__(self, method: str, message: str) -> None:
        super().__init__(message)
        self.method = method


class WorkerDied(RuntimeError):  # noqa: N818 - says what happened
    """A worker process ended in the middle of a job."""


class WorkerFailed(RuntimeError):  # noqa: N818 - says what happened
    """A job raised what is no user's mistake; the message is the worker's traceback."""


def counted(number: int, what: str) -> str:
    """ "1 pair", "2 pairs": a number with what is counted, for messages."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
