"""Real SuperLinks and SuperNodes on the loopback, with TLS and keys; the apps are stand-ins (stand_ins.py)."""

import os
import signal
import subprocess
import sys

import pytest

from fedcmp.deployment.certificates import make_authority
from fedcmp.deployment.server_folder import read_roster
from fedcmp.deployment.site_keys import make_site_key, public_path, register_site, remove_site
from tests.deployment.federation import descendants, gone


def processes_of(rounds, name):
    return {answers[name]["process"] for answers in rounds}


def test_a_federation_runs_to_its_end(federation):
    lab = federation(rounds=2)
    server, site = lab.serve(), lab.join("site-1")
    site.wait_for("connected to 127.0.0.1")
    assert list(read_roster(lab.home).values()) == ["site-1"]
    started = descendants(site.process.pid)
    assert server.ends(60) == 0
    assert f"finished: {lab.home / 'runs' / 'test'}" in server.text
    rounds = lab.rounds()
    assert [answers["site-1"]["number"] for answers in rounds] == [2, 3]
    assert len(processes_of(rounds, "site-1")) == 1  # one trainer did all rounds
    assert "Flower" not in server.text
    assert site.end() == 143
    gone(started)
    assert not (lab.home / "serving.json").exists()
    assert not list((lab.folder / "site-1" / "state").glob("socket-folder"))


@pytest.mark.slow
def test_a_killed_superlink_is_started_again_and_sites_come_back(federation):
    lab = federation(2, rounds=4, pause=2)
    server, sites = lab.serve(), [lab.join(name) for name in lab.sites]
    server.wait_for("round 2 is done")
    os.kill(server.child("deployment.superlink"), signal.SIGKILL)
    server.wait_for("resuming behind round", 60)
    server.wait_for("round 3 is done", 60)
    assert server.ends(60) == 0
    assert "the SuperLink died" in server.text
    for name, site in zip(lab.sites, sites, strict=True):
        assert site.text.count("connected to") == 2
        assert len(processes_of(lab.rounds(), name)) == 1, "the trainer must live on"
    assert [answers["site-1"]["number"] for answers in lab.rounds()] == [2, 3, 4, 5]


@pytest.mark.slow
def test_a_killed_server_app_resumes_on_the_same_superlink(federation):
    lab = federation(1, rounds=4, pause=2)
    server, site = lab.serve(), lab.join("site-1")
    server.wait_for("round 1 is done")
    superlink, starter = server.child("deployment.superlink"), server.child("deployment.apps")
    (app,) = descendants(starter)
    os.kill(app, signal.SIGKILL)
    server.wait_for("the server app died (exit code -9)", 10)
    assert server.child("deployment.superlink") == superlink
    assert server.ends(60) == 0
    assert "resuming behind round 1" in server.text
    assert site.text.count("connected to") == 1
    assert [answers["site-1"]["number"] for answers in lab.rounds()] == [2, 3, 4, 5]


@pytest.mark.slow
def test_a_killed_supernode_is_back_within_seconds(federation):
    lab = federation(1, rounds=4, pause=2)
    server, site = lab.serve(), lab.join("site-1")
    server.wait_for("round 1 is done")
    trainer = site.child("stand_in_trainer")
    os.kill(site.child("flower_supernode"), signal.SIGKILL)
    site.wait_for("connected to", 30, times=2)
    assert "refused: " not in site.text  # as it would be for the SuperLink's minute of patience
    assert site.child("stand_in_trainer") == trainer
    assert server.ends(90) == 0
    assert processes_of(lab.rounds(), "site-1") == {trainer}


@pytest.mark.slow
def test_a_killed_trainer_is_started_again(federation):
    lab = federation(1, rounds=4, pause=2)
    server, site = lab.serve(), lab.join("site-1")
    server.wait_for("round 1 is done")
    os.kill(site.child("stand_in_trainer"), signal.SIGKILL)
    site.wait_for("the trainer died (exit code -9)", 10)
    assert server.ends(90) == 0
    assert len(processes_of(lab.rounds(), "site-1")) == 2


@pytest.mark.slow
def test_a_killed_command_leaves_nothing_behind_and_a_new_one_continues(federation):
    lab = federation(1, rounds=4, pause=2)
    server, site = lab.serve(), lab.join("site-1")
    server.wait_for("round 2 is done")
    for running in (server, site):
        started = descendants(running.process.pid)
        assert len(started) >= 3
        running.process.kill()
        running.process.wait()
        gone(started)
    again = lab.serve("--resume")
    rejoined = lab.join("site-1")
    again.wait_for("resuming behind round 2", 60)
    assert again.ends(60) == 0
    assert "connected to" in rejoined.text
    assert [answers["site-1"]["number"] for answers in lab.rounds()] == [2, 3, 4, 5]


@pytest.mark.slow
def test_a_key_that_is_not_registered_is_refused_until_it_is(federation):
    lab = federation(2, rounds=1)
    remove_site(lab.home / "sites", "site-2")
    lab.recipe.write_text(lab.recipe.read_text().replace("'site-1', 'site-2'", "'site-1'"))
    server, stranger = lab.serve(), lab.join("site-2")
    stranger.wait_for("refused: the server has not registered this site's key SHA256:", 60)
    assert "keys add HOME site-2" in stranger.text
    assert "site-2" not in read_roster(lab.home).values()
    assert stranger.process.poll() is None
    register_site(lab.home / "sites", "site-2", lab.folder / "site-2" / "site.key.pub")
    stranger.wait_for("connected to", 40)
    server.wait_for("site-2: connected", 20)
    assert "site-2" in read_roster(lab.home).values()


@pytest.mark.slow
def test_a_key_is_rotated_and_taken_back_while_the_server_runs(federation):
    lab = federation(1, rounds=1, sites=2)  # waits for ever
    server, site = lab.serve(), lab.join("site-1")
    server.wait_for("site-1: connected")
    key = lab.folder / "site-1" / "site.key"
    make_site_key(key, "site-1", rotate=True)
    register_site(lab.home / "sites", "site-1", public_path(key), replace=True)
    server.wait_for("is registered no more", 20)
    site.wait_for("connected to", 60, times=2)
    remove_site(lab.home / "sites", "site-1")
    site.wait_for("refused: ", 60)
    assert read_roster(lab.home) == {}
    register_site(lab.home / "sites", "site-1", public_path(key))
    server.wait_for("Flower takes it again only after a restart of the server", 20)
    make_site_key(key, "site-1", rotate=True)
    register_site(lab.home / "sites", "site-1", public_path(key), replace=True)
    site.wait_for("connected to", 60, times=3)


@pytest.mark.slow
def test_a_server_with_a_certificate_of_another_authority_is_not_trusted(federation):
    lab = federation(1, rounds=1)
    other = make_authority(lab.folder / "other")
    (lab.folder / "site-1" / "ca.pem").write_bytes(other.authority.read_bytes())
    server = lab.serve()
    server.wait_for("serving on")
    site = lab.join("site-1")
    assert site.ends(30) == 2
    assert "its certificate is not from the authority in" in site.text.splitlines()[-1]
    assert "site-1: connected" not in server.text


@pytest.mark.slow
def test_an_error_of_the_server_app_stops_the_run_with_one_line(federation):
    lab = federation(1)
    server = lab.serve("failing_app")
    assert server.ends(60) == 2
    assert server.text.splitlines()[-1] == "fedcmp: the recipe asks for the impossible"
    assert "Traceback" not in server.text
    broken = lab.serve("broken_app")
    assert broken.ends(60) == 1
    log = lab.home / "logs" / "apps.log"
    assert broken.text.splitlines()[-1] == f"fedcmp: the server app failed: 'none'; see {log}"
    assert "KeyError" in log.read_text()


@pytest.mark.slow
def test_a_mistake_that_the_trainer_names_stops_the_site(federation):
    lab = federation(1)
    refused = lab.site_file("site-1").with_name("refuse.toml")
    refused.write_text(lab.site_file("site-1").read_text())
    site = lab._start("refuse", "join", str(refused))
    assert site.ends(30) == 2
    assert site.text.splitlines()[-1] == "fedcmp: data.pairs: nothing usable"


@pytest.mark.slow
def test_flowers_own_commands_work_on_the_servers_folder(federation):
    lab = federation(1, rounds=1, sites=2)  # waits for ever
    server, _ = lab.serve(), lab.join("site-1")
    server.wait_for("site-1: connected")
    environment = {**os.environ, "FLWR_HOME": str(lab.home / "flower"), "FLWR_TELEMETRY_ENABLED": "0"}
    command = [sys.executable, "-c", "from flwr.cli.app import app; app()"]
    listed = subprocess.run(
        [*command, "supernode", "list", "lab"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "online" in listed.stdout, listed.stderr
    settings = f'recipe="{lab.recipe}" home="{lab.home}" resume=false'
    run = [*command, "run", str(lab.home / "app"), "lab", "--run-config", settings]
    started = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60)
    assert "Successfully started run" in started.stdout, started.stderr
