import pytest

from tests.deployment.federation import make_federation


@pytest.fixture
def federation(tmp_path):
    """Make a federation of so many sites; what it has started ends with the test."""
    made = []

    def make(count=1, **settings):
        made.append(make_federation(tmp_path, count, **settings))
        return made[0]

    yield make
    for one in made:
        for running in one.running:
            running.end()
