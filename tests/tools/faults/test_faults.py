"""What `make faults` draws, how it judges an end, what is done about a torn file, and the tables that it writes."""

import json
import random

import pytest

from tools.faults.__main__ import line_of, table
from tools.faults.damage import tear
from tools.faults.moments import SERVER, SITE, Moment, noted, strike
from tools.faults.outcome import absences
from tools.faults.places import SITES, Places, Setting
from tools.faults.plan import DISK, MESSAGE, OF_SERVER, OF_SITE, SERVER_KILLED, TORN, Fault, Plan, draw_plan
from tools.faults.schedule import Ended
from tools.faults.verdict import SAME, STOPPED, WITHOUT, WRONG, Result


def test_a_schedule_follows_from_seed_and_number():
    assert draw_plan(3, 5, disks=True) == draw_plan(3, 5, disks=True)
    assert draw_plan(3, 5, disks=True) != draw_plan(4, 5, disks=True)


def test_every_kind_of_fault_is_drawn_and_has_what_it_needs():
    faults = [fault for number in range(400) for fault in draw_plan(1, number, disks=True).faults]
    assert {fault.kind for fault in faults} >= {SERVER_KILLED, MESSAGE, TORN, DISK}
    for fault in faults:
        if fault.kind == TORN:
            assert fault.what in (OF_SITE if fault.site else OF_SERVER)
        if fault.kind == SERVER_KILLED:
            assert fault.what in (*SERVER, "")
        assert fault.site in (*SITES, "")
    assert not any(fault.kind == DISK for n in range(50) for fault in draw_plan(1, n, disks=False).faults)


@pytest.mark.parametrize("moment", [*SERVER.values(), *SITE.values()])
def test_every_moment_is_a_function_that_is_there(moment):
    assert callable(getattr(moment.owner, moment.name))


@pytest.mark.parametrize("before", [True, False])
def test_a_process_kills_itself_at_the_moment_that_was_named(before, tmp_path, monkeypatch):
    said = []

    class Owner:
        def work(self):
            said.append("worked")

    monkeypatch.setattr("os.kill", lambda *_: said.append("killed"))
    strike(Moment(Owner, "work", before=before), 2, 7, tmp_path / "fired")
    for _ in range(3):
        Owner().work()
    at = ["killed", "worked"] if before else ["worked", "killed"]
    assert said == ["worked", *at, "worked"]
    assert noted(tmp_path / "fired") == [7]


def test_of_a_round_that_is_closed_twice_the_last_time_counts(tmp_path):
    lines = [(1, True, [0, 1, 2]), (1, False, [0, 2]), (1, False, [0, 1, 2]), (2, False, [1])]
    content = [{"round": number, "opening": opening, "clients": clients} for number, opening, clients in lines]
    places = Places(tmp_path)
    places.closings.write_text("".join(json.dumps(line) + "\n" for line in content))
    assert absences(places) == {(2, False, "north"), (2, False, "west")}


def test_a_torn_file_is_restored_or_its_folder_removed_as_the_line_says(tmp_path):
    places = Places(tmp_path)
    folder = places.server / "checkpoints" / "round-0002"
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(b"0123456789")
    torn = tear(places, "", "newest checkpoint", random.Random(1))
    assert (folder / "state.json").read_bytes() == b"01234"
    torn.repair("something else")
    assert (folder / "state.json").read_bytes() == b"0123456789"
    torn = tear(places, "", "newest checkpoint", random.Random(1))
    torn.repair(f"stopped: {folder}: damaged checkpoint (...); remove this folder to resume from the one before")
    assert not folder.exists()
    assert tear(places, "", "newest checkpoint", random.Random(1)) is None


def test_a_torn_file_that_was_written_again_is_left_alone(tmp_path):
    places = Places(tmp_path)
    places.server.mkdir(parents=True)
    (places.server / "sites.json").write_bytes(b"0123456789")
    torn = tear(places, "", "register", random.Random(1))
    (places.server / "sites.json").write_bytes(b"new")
    torn.repair("")
    assert (places.server / "sites.json").read_bytes() == b"new"


def test_the_table_counts_ends_and_faults():
    fault, absent = Fault(SERVER_KILLED, what="a round is closing"), frozenset({(1, False, "west")})

    def result(different=(), **changes):
        values = {"finished": True, "fault": "", "stops": [], "injected": [fault], "kills": 1, "seconds": 4.0}
        return Result(Plan("1/0", Setting("moon"), (fault,)), Ended(**values | changes), list(different))

    results = [
        result(),
        result(absent=absent),
        result(stops=["the disk is full"], absent=absent),
        result(different=["projector.safetensors"]),
        result(fault="server wrote a traceback"),
        result(finished=False, stops=["again"] * 4),
    ]
    assert [each.end for each in results] == [SAME, WITHOUT, STOPPED, WRONG, WRONG, WRONG]
    lines = table(results)
    assert f"| {WRONG} | 3 |" in lines
    assert "| server killed | 6 | 6 | 3 |" in lines
    assert "different: projector.safetensors" in line_of(results[3])
    assert "server killed (a round is closing)" in line_of(results[0])
