"""What a client keeps on its own disk."""

import pytest
import torch

from fedcmp.errors import UserError
from fedcmp.federation.client_folder import ClientFolder, PartFile
from fedcmp.wire.messages import Assignment, ClientState
from fedcmp.wire.part_state import PartState
from fedcmp.wire.payload import forms


def state(number):
    return ClientState(number, residual={"w": torch.full((2,), float(number))})


def kept(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_a_client_begins_with_nothing_and_makes_no_folder(tmp_path):
    folder = ClientFolder(tmp_path / "hospital-a")
    assert folder.load(0) is None
    assert not folder.path.exists()


def test_a_state_is_read_back(tmp_path):
    folder = ClientFolder(tmp_path / "a")
    folder.save(state(1), continued=0)
    assert torch.equal(folder.load(1).residual["w"], torch.ones(2))


def test_states_that_a_server_may_still_ask_for_are_kept(tmp_path):
    """The server keeps two checkpoints: it may resume from the one before the last."""
    folder = ClientFolder(tmp_path / "a")
    for number in range(1, 6):
        folder.save(state(number), continued=number - 1)
    assert kept(folder) == [f"round-000{number}.safetensors" for number in (3, 4, 5)]
    folder.save(state(7), continued=5)  # absent in round 6
    assert kept(folder) == [f"round-000{number}.safetensors" for number in (4, 5, 7)]


def test_a_refused_round_and_those_of_an_abandoned_future_are_dropped(tmp_path):
    folder = ClientFolder(tmp_path / "a")
    for number in (1, 2, 3):
        folder.save(state(number), continued=number - 1)
    folder.save(state(2), continued=1)  # the server went back to round 1
    assert kept(folder) == ["round-0001.safetensors", "round-0002.safetensors"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:30])])
def test_a_state_that_is_missing_or_damaged_is_named(tmp_path, damage):
    folder = ClientFolder(tmp_path / "hospital-a")
    folder.save(state(4), continued=3)
    damage(folder.path / "round-0004.safetensors")
    with pytest.raises(UserError, match=r"hospital-a/round-0004.*client's state of round 4"):
        folder.load(4)


ASSIGNMENT = Assignment(1, learning_rate=0.1, forms=forms("float32"), state={"w": torch.ones(2)})


def part(folder, assignment=ASSIGNMENT, client=0, seconds=0.0):
    return PartFile(folder, seconds=seconds, assignments=[(client, assignment)])


def middle(work):
    return PartState(work, 3, [[0.5, 0.4]], [8], {"w": torch.ones(1, 2)}, {}, {}, {}, {})


def test_the_middle_of_a_part_is_continued_for_the_same_assignment_only(tmp_path):
    file = part(tmp_path)
    assert file.load() is None
    file.save(middle(file.work))
    assert part(tmp_path).load().next_step == 3
    others = [
        part(tmp_path, Assignment(2, learning_rate=0.1, forms=forms("float32"), state=ASSIGNMENT.state)),
        part(tmp_path, Assignment(1, learning_rate=0.1, forms=forms("float32"), state={"w": torch.zeros(2)})),
        part(tmp_path, client=1),
    ]
    assert all(other.load() is None for other in others)
    file.done()
    file.done()
    assert part(tmp_path).load() is None


def test_a_damaged_middle_counts_for_nothing(tmp_path):
    file = part(tmp_path)
    file.save(middle(file.work))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert part(tmp_path).load() is None


def test_it_is_due_after_its_seconds(tmp_path):
    assert part(tmp_path, seconds=0.0).due()
    assert not part(tmp_path, seconds=3600.0).due()
