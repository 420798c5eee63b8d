"""Who takes part in a run, on the server's disk."""

import json
import time

import pytest

from fedcmp.deployment.register import Register
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.wire.site_messages import Admission, Holding

NAMES = ["north", "south", "west"]
HASH, OTHER = "0f" * 32, "1e" * 32
USABLE = (60, 48, 40)


def admission(usable, **changes):
    own = {"vision_width": 64, "text_width": 96, "vision": HASH, "language": HASH}
    return Admission(release="0.2.0", usable=usable, **(own | changes))


def holding(train, **changes):
    return Holding(**{"train": train, "groups": {}, "bad_pairs": {}, "missing_pairs": 0, "pairs": []} | changes)


@pytest.fixture
def register(tmp_path):
    register = Register(tmp_path / "sites.json", NAMES)
    register.begin()
    return register


def again(register):
    other = Register(register._path, NAMES)
    other.begin()
    return other


def test_a_run_has_a_name_of_its_own_and_every_start_a_later_attempt(register, tmp_path):
    second, third = again(register), again(register)
    assert register.run == second.run == third.run
    assert len(register.run) == 32
    assert register.attempt < second.attempt < third.attempt
    assert register.attempt >= int(time.time()) - 60  # a folder restored from a copy does not go back
    other = Register(tmp_path / "another.json", NAMES)
    other.begin()
    assert other.run != register.run


def test_a_clock_that_was_set_back_changes_nothing(register, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert again(register).attempt == register.attempt + 1


def test_pairs_begin_where_those_of_the_sites_before_end(register):
    for client in (0, 1, 2):
        register.admit(client, admission(USABLE[client]))
    assert [register.placement(client) for client in (0, 1, 2)] == [0, 60, 108]
    assert [again(register).placement(client) for client in (2, 1, 0)] == [108, 60, 0]


def test_a_site_that_comes_late_is_placed_behind_all_others_and_stays_there(register):
    for client in (0, 2):
        register.admit(client, admission(USABLE[client]))
        register.placement(client)
    later = again(register)
    later.admit(1, admission(48))
    assert later.placement(1) == 100
    assert [later.placement(client) for client in (0, 1, 2)] == [0, 100, 60]


def test_what_sites_said_is_there_after_a_restart(register):
    for client in (2, 0):
        register.admit(client, admission(USABLE[client]))
        register.placement(client)
        register.hold(client, holding(USABLE[client] - 8, groups={"animals": 3}))
    assert register.pairs == [52, 32]
    other = again(register)
    assert other.members == register.members
    assert other.pairs == [52, 32]


def test_a_site_whose_pairs_changed_is_turned_away(register):
    register.admit(0, admission(60))
    register.admit(0, admission(60))
    with pytest.raises(UserError, match="north: has 59 usable pairs, and had 60 when the run began"):
        register.admit(0, admission(59))
    assert again(register).members[0].admission.usable == 60


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"vision": OTHER}, "vision"),
        ({"vision_width": 65}, "vision"),
        ({"language": OTHER}, "language"),
        ({"text_width": 1}, "language"),
    ],
)
def test_all_sites_have_the_same_frozen_parts_and_keep_them(register, change, part):
    register.admit(0, admission(60))
    with pytest.raises(UserError, match=rf"south: its model\.{part} is not that of north"):
        register.admit(1, admission(48, **change))
    assert 1 not in register.members
    with pytest.raises(UserError, match=rf"north: its model\.{part} is not that it had when the run began"):
        register.admit(0, admission(60, **change))


def test_a_site_trains_on_what_it_has_and_on_no_other_number_later(register):
    register.admit(0, admission(60))
    with pytest.raises(UserError, match="north: trains on 61 of 60 usable pairs"):
        register.hold(0, holding(61))
    register.hold(0, holding(50))
    register.hold(0, holding(50))
    with pytest.raises(UserError, match="north: trains on 49 pairs, and on 50 before"):
        register.hold(0, holding(49))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-3],
        lambda text: "[]",
        lambda text: '{"run": "ab"}',
        lambda text: text.replace("north", "nobody"),
        lambda text: text.replace('"usable": 60', '"usable": "many"'),
        lambda text: text.replace('"sites": {', '"sites": [{') + "]",
    ],
)
def test_a_damaged_file_is_named(register, damage):
    register.admit(0, admission(60))
    register._path.write_text(damage(register._path.read_text()))
    with pytest.raises(UserError, match=r"sites\.json: damaged .*; restore it, or begin the run again"):
        again(register)


def test_the_file_is_json_that_people_can_read(register):
    register.admit(0, admission(60))
    content = json.loads(register._path.read_text())
    assert content["run"] == register.run
    assert content["sites"]["north"]["admission"]["usable"] == 60


def test_a_thousand_sites_are_not_written_a_thousand_times_and_none_is_forgotten(tmp_path, monkeypatch):
    """The file has an entry for every site: writing it for each of them would take the square of their number."""
    names, written = [f"site-{number}" for number in range(1000)], []

    def counted(path, content):
        written.append(len(content))
        time.sleep(0.001)
        write_whole(path, content)

    monkeypatch.setattr("fedcmp.deployment.register.write_whole", counted)
    register = Register(tmp_path / "sites.json", names)
    register.begin()
    for client in range(1000):
        register.admit(client, admission(60))
    assert len(written) < 300
    register.place(range(1000))  # where a site's pairs begin is on disk before anyone is told
    placed = Register(tmp_path / "sites.json", names)
    placed.begin()
    assert [placed.members[client].first_position for client in range(1000)] == [60 * client for client in range(1000)]
    for client in range(1000):
        register.hold(client, holding(40))
    register.flush()
    held = Register(tmp_path / "sites.json", names)
    held.begin()
    assert held.pairs == [40] * 1000
    before = len(written)
    register.flush()
    assert len(written) == before
