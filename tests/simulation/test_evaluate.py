"""References are measured once for all methods that share them, whichever thread asks first."""

import threading
import time

import pytest

from fedcmp.simulation.evaluate import Measured, References


def test_threads_share_one_measurement():
    calls = []

    def measure():
        calls.append(1)
        time.sleep(0.05)
        return Measured({"n": len(calls)}, []), Measured({}, [])

    shared, found = References(), []
    threads = [threading.Thread(target=lambda: found.append(shared.of(measure))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(one is found[0] for one in found)


def test_a_failure_is_not_kept():
    shared = References()
    with pytest.raises(KeyError):
        shared.of(lambda: {}[0])
    assert shared.of(lambda: (Measured({}, []), Measured({}, [])))
