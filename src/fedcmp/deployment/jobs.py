"""One job at a time, done once however often it is asked for: what a site's trainer works on.

A job runs in a thread of its own. Whoever asks for it waits up to so many seconds, and asks again; a job that another
takes the place of is told to stop at its next step.
"""

import threading
from collections.abc import Callable

from fedcmp.deployment.refusals import Say, refusal
from fedcmp.wire.site_messages import Frame


class Superseded(Exception):  # noqa: N818 - says what happened
    """Another job has taken this one's place."""


class Job:
    """Work under way, or done.

    Args:
        name: what tells it from any other.
        work: returns the answer; calls `step` as it goes on.
        say: called with a line for the site's people if the work fails.
        of: steps that it takes, where that is known.
    """

    def __init__(self, name: str, work: Callable[["Job"], Frame], say: Say = lambda _line: None, of: int = 0) -> None:
        self.name, self.steps, self.of = name, 0, of
        self.answer: Frame | None = None
        self._work, self._say, self._over, self._stop = work, say, threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"job {name[:8]}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def step(self) -> None:
        """Count a step.

        Raises:
            Superseded: the job is to stop.
        """
        self.steps += 1
        if self._stop:
            raise Superseded

    def supersede(self) -> None:
        """Stop the job at its next step, and wait for that."""
        self._stop = True
        self._thread.join()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come. `answer` is then None of a job that was stopped."""
        return self._over.wait(seconds)

    @property
    def failed(self) -> bool:
        """Whether it ended without doing what it should: asked for again, it is begun again."""
        return self._over.is_set() and (self.answer is None or self.answer[0]["message"] == "refusal")

    def _run(self) -> None:
        try:
            self.answer = self._work(self)
        except Superseded:
            pass
        except Exception as error:
            self.answer = refusal(error, self._say).to_tensors()
        finally:
            self._over.set()
