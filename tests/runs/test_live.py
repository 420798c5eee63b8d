"""live.json: what a server writes at each event, and what is read of it."""

import json
import subprocess
import sys
import threading
import time

import pytest
from pydantic import ValidationError

from fedcmp.files import write_whole
from fedcmp.runs.live import LIVE, Live, LiveFile


def test_a_round_and_its_sites_are_there_for_whoever_looks(tmp_path):
    live = LiveFile(tmp_path, "fedavg", 20, ["north", "south"])
    first = Live.read(tmp_path)
    assert (first.method, first.round, first.rounds, first.deadline) == ("fedavg", 0, 20, None)
    assert {name: site.state for name, site in first.sites.items()} == {"north": "waiting", "south": "waiting"}
    live.open(7, seconds=600)
    live.site("north", "training", step=1, steps=80)
    now = Live.read(tmp_path)
    assert now.round == 7
    assert now.deadline == pytest.approx(now.opened + 600)
    assert now.sites["north"].since >= now.opened > first.opened
    assert now.updated >= now.sites["north"].since
    live.site("north", "training", step=12, steps=80)
    later = Live.read(tmp_path).sites["north"]
    assert (later.step, later.steps) == (12, 80)
    assert later.since == now.sites["north"].since  # it trains since the first of these
    live.site("north", "done")
    live.site("east", "late", detail="joined in between")
    done = Live.read(tmp_path).sites
    assert done["north"].since > later.since
    assert (done["north"].step, done["east"].detail, list(done)) == (
        None,
        "joined in between",
        ["north", "south", "east"],
    )
    live.close()
    live.close()
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_always_whole(tmp_path):
    """Several threads write, one reads: never a torn file, and every thread's last word is there."""
    live, torn, stop = LiveFile(tmp_path, "fedavg", 1, []), [], threading.Event()

    def write(name):
        for step in range(60):
            live.site(name, "training", step=step, steps=60)

    def read():
        while not stop.is_set():
            if Live.read(tmp_path) is None:
                torn.append(1)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(f"site-{n}",)) for n in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert torn == []
    assert {name: site.step for name, site in Live.read(tmp_path).sites.items()} == {f"site-{n}": 59 for n in range(4)}


def test_a_state_is_one_of_those_that_there_are(tmp_path):
    with pytest.raises(ValidationError, match="state"):
        LiveFile(tmp_path, "fedavg", 1, ["a"]).site("a", "asleep")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / LIVE).write_bytes(content)
    assert Live.read(tmp_path) is None


def test_strays_are_read_as_nothing(tmp_path):
    (tmp_path / LIVE).write_text(json.dumps({"round": "7", "sites": {"a": 3, "b": {"state": 1, "since": []}}}))
    live = Live.read(tmp_path)
    assert (live.method, live.round, live.opened) == ("", None, None)
    assert [(site.state, site.since) for site in live.sites.values()] == [("", None), ("", None)]


def test_it_needs_no_torch():
    code = "import sys, fedcmp.runs.live, fedcmp.runs.status; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_many_sites_the_last_word_is_written_though_not_every_one(tmp_path, monkeypatch):
    """Each writing has an entry for every site: one for every event would take the square of their number."""
    written = []

    def counted(path, content, *, durable):
        written.append(1)
        time.sleep(0.002)
        write_whole(path, content, durable=durable)

    monkeypatch.setattr("fedcmp.runs.live.write_whole", counted)
    names = [f"site-{number}" for number in range(400)]
    live = LiveFile(tmp_path, "fedavg", 1, names)
    for name in names:
        live.site(name, "done")
    assert len(written) < 200
    until = time.monotonic() + 30
    while {site.state for site in Live.read(tmp_path).sites.values()} != {"done"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    live.site("site-0", "training")
    live.site("site-1", "training")  # not yet written when the run ends
    live.close()
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []
