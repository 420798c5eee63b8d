"""A deployment through faults, one kind per test: real processes, really killed (`make faults` mixes them)."""

from pathlib import Path

import pytest

from tools.faults.disk import can_be_mounted
from tools.faults.moments import SERVER, SITE
from tools.faults.places import Setting, export_pairs
from tools.faults.plan import (
    CLOCK,
    CUT,
    DISK,
    FATES,
    HOUR,
    MESSAGE,
    OF_SERVER,
    OF_SITE,
    SERVER_KILLED,
    SILENT,
    SITE_KILLED,
    TORN,
    Fault,
    Plan,
)
from tools.faults.verdict import SAME, STOPPED, WITHOUT, Result, Trial

MOON = Setting("moon", "int8")  # what stays with a site: its last projector, what rounding lost
CLOSING = Setting("moon", "int8", deadline=0.5, min_clients=2)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    work = tmp_path_factory.mktemp("f")
    return Trial(work, export_pairs(work / "pairs"))


def tried(trial: Trial, *faults: Fault, setting: Setting = MOON) -> Result:
    result = trial.of(Plan("test", setting, faults))
    print(result)
    return result


@pytest.mark.slow
def test_a_server_killed_while_it_closes_and_a_site_killed_in_its_part_change_nothing(trial: Trial) -> None:
    result = tried(
        trial,
        Fault(SERVER_KILLED, what="a round is closing", count=2),
        Fault(SITE_KILLED, "west", what="the middle of a part is saved", count=2),
    )
    assert result.end == SAME
    assert result.ended.kills == 2


@pytest.mark.slow
@pytest.mark.parametrize("moment", SERVER)
def test_a_server_killed_at_any_moment_goes_on_with_that_round(trial: Trial, moment: str) -> None:
    result = tried(trial, Fault(SERVER_KILLED, what=moment, count=min(2, SERVER[moment].most)))
    assert result.end == SAME
    assert result.ended.kills == 1


@pytest.mark.slow
def test_a_server_killed_between_the_opening_round_and_the_first_keeps_both(trial: Trial) -> None:
    faults = [Fault(SERVER_KILLED, what="a reply is kept", count=count) for count in (2, 4)]
    result = tried(trial, *faults, setting=Setting("shared-basis"))
    assert result.end == SAME
    assert result.ended.kills == 2


@pytest.mark.slow
@pytest.mark.parametrize("moment", SITE)
def test_a_site_killed_at_any_moment_is_back_for_the_same_round(trial: Trial, moment: str) -> None:
    result = tried(trial, Fault(SITE_KILLED, "south", what=moment, count=min(2, SITE[moment].most)))
    assert result.end == SAME
    assert result.ended.kills == 1


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
def test_a_message_that_goes_astray_is_made_up_for(trial: Trial, fate: str) -> None:
    faults = [Fault(MESSAGE, "south", fate, message, 2, lasts=0.2) for message in ("training", "judging")]
    result = tried(trial, *faults)
    assert result.end == SAME
    assert len(result.ended.injected) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CUT, SILENT])
def test_a_site_that_is_gone_beyond_the_deadline_misses_the_round_and_is_back_for_the_next(
    trial: Trial, kind: str
) -> None:
    for lasts in (1.0, 2.0, 4.0):  # on a busy machine a short absence may be over before a round begins
        result = tried(trial, Fault(kind, "north", share=0.5, lasts=lasts), setting=CLOSING)
        if result.end != SAME:
            break
    assert result.end == WITHOUT
    assert {site for _, _, site in result.ended.absent} == {"north"}


@pytest.mark.slow
def test_a_reply_that_comes_after_its_round_was_closed_counts_for_no_round(trial: Trial) -> None:
    result = tried(trial, Fault(MESSAGE, "north", "answered late", "training", 1, lasts=0.8), setting=CLOSING)
    assert result.end == WITHOUT
    assert result.ended.absent == {(1, False, "north")}


@pytest.mark.slow
@pytest.mark.parametrize("site", ["", "west"])
def test_a_full_disk_stops_nobody_but_whose_it_is(trial: Trial, site: str, tmp_path: Path) -> None:
    if not can_be_mounted(tmp_path / "disk"):
        pytest.skip("this user may not mount a file system")
    result = tried(trial, Fault(DISK, site, share=0.6, lasts=0.3))
    assert result.end in (SAME, STOPPED)
    assert all("full" in line or "No space" in line or "no reply from west" in line for line in result.ended.stops)


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["", "north"])
@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_a_clock_an_hour_off_changes_nothing(trial: Trial, whose: str, off: float) -> None:
    faults = [Fault(CLOCK, whose, share=0.5, off=off), Fault(SERVER_KILLED, what="a reply is kept", count=5)]
    assert tried(trial, *faults).end == SAME


@pytest.mark.slow
@pytest.mark.parametrize(("site", "what"), [("", each) for each in OF_SERVER] + [("west", each) for each in OF_SITE])
def test_a_torn_file_is_named_or_made_up_for(trial: Trial, site: str, what: str) -> None:
    result = tried(trial, Fault(TORN, site, what=what, count=2))
    assert result.end in (SAME, STOPPED)
    assert result.ended.kills == 1
