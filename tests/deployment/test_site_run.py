"""One run as a site keeps it."""

import json

import pytest
import torch

from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.site_file import Site
from fedcmp.deployment.site_run import Place, SiteRun
from fedcmp.errors import UserError
from fedcmp.wire.messages import Reply

RUN, JOB = "ab" * 16, "0f" * 32
RECIPE = '[run]\nmethods = ["fedavg"]\n[data]\nnum_pairs = 1\n'
REPLY = Reply(2, client=1, num_examples=3, alignment_error=0.5, seconds=1.5, state={"w": torch.randn(7, 3)})


@pytest.fixture
def site(tmp_path):
    identity = {"name": "north", "server": "127.0.0.1:9000", "folder": str(tmp_path / "state")}
    return Site.model_validate({"site": identity, "data": {"format": "llava", "pairs": str(tmp_path / "pairs.json")}})


@pytest.fixture
def run(site):
    return SiteRun(site, RUN)


def again(run, site):
    """As a trainer that was started again finds it."""
    return SiteRun(site, run.folder.name)


def test_nothing_is_kept_of_a_run_that_was_not_accepted(run, tmp_path):
    assert not run.known
    assert run.placed is None
    assert not run.is_late((5, 1))
    assert not (tmp_path / "state").exists()


def test_a_run_is_known_once_its_recipe_is_accepted(run, site):
    run.accept(RECIPE)
    assert again(run, site).known
    assert again(run, site).text() == RECIPE
    run.accept(RECIPE)
    with pytest.raises(Declined, match="the run's recipe changed since it began"):
        run.accept(RECIPE + "# another\n")


@pytest.mark.parametrize("text", [RECIPE.replace("\n", "\r\n"), RECIPE + "# é\x85 line \u2028\n"])
def test_a_recipe_is_kept_to_the_letter(run, site, text):
    run.accept(text)
    run.accept(text)
    assert again(run, site).text() == text


def test_an_earlier_ticket_is_late_also_after_a_restart(run, site):
    run.accept(RECIPE)
    assert not run.is_late((5, 3))
    assert not run.is_late((5, 3))  # the same message once more: its job is done once
    for other in (run, again(run, site)):
        assert other.is_late((5, 2))
        assert other.is_late((4, 99))
    assert not again(run, site).is_late((5, 4))
    assert not run.is_late((6, 1))


def test_the_ticket_of_the_invitation_is_kept_with_the_recipe(run, site):
    assert not run.is_late((5, 3))
    run.accept(RECIPE)
    assert again(run, site).is_late((5, 2))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '["a", "b"]', "[" * 100])
def test_a_damaged_ticket_counts_as_none(run, site, content):
    run.accept(RECIPE)
    (run.folder / "ticket.json").write_text(content)
    assert not again(run, site).is_late((0, 0))


def test_a_placement_stays(run, site):
    run.accept(RECIPE)
    run.check_place(Place(1, 60))
    run.place(Place(1, 60))
    assert again(run, site).placed == Place(1, 60)
    run.check_place(Place(1, 60))
    for other in (Place(0, 60), Place(1, 0)):
        with pytest.raises(Declined, match="this site is client 1 of the run, after 60 pairs of others"):
            again(run, site).check_place(other)


@pytest.mark.parametrize("content", ["", "{}", "null", '{"client": 1}', '{"client": "x", "first_position": 0}'])
def test_a_damaged_placement_is_none_and_the_server_tells_again(run, content):
    run.accept(RECIPE)
    (run.folder / "placement.json").write_text(content)
    assert run.placed is None
    run.check_place(Place(2, 0))


@pytest.mark.parametrize("name", ["fedavg", "recipe.toml", "ticket.json", "placement.json", "prepared-0", "methods"])
def test_a_methods_folder_is_none_of_the_runs_own_files(run, site, name):
    run.accept(RECIPE)
    run.place(Place(0, 0))
    run.prepared(0).mkdir()
    run.keep_reply(name, JOB, REPLY)
    assert again(run, site).kept_reply(name, JOB) is not None
    assert again(run, site).text() == RECIPE
    assert again(run, site).placed == Place(0, 0)
    assert list(run.prepared(0).iterdir()) == []


def test_the_last_reply_to_a_job_is_kept_to_the_byte(run, site):
    run.keep_reply("fedavg", JOB, REPLY)
    header, tensors = again(run, site).kept_reply("fedavg", JOB).to_tensors()
    expected, own = REPLY.to_tensors()
    assert json.dumps(header) == json.dumps(expected)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in own.items())
    assert run.kept_reply("fedavg", "1f" * 32) is None
    assert run.kept_reply("moon", JOB) is None
    run.keep_reply("fedavg", "1f" * 32, REPLY)
    assert run.kept_reply("fedavg", JOB) is None


def test_a_torn_reply_counts_for_nothing(run):
    run.keep_reply("fedavg", JOB, REPLY)
    path = run.method("fedavg") / "reply.safetensors"
    whole = path.read_bytes()
    for cut in (b"", whole[:30], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(cut)
        assert run.kept_reply("fedavg", JOB) is None


def test_a_torn_recipe_counts_as_none_and_is_sent_again(run, site):
    run.accept(RECIPE)
    path = run.folder / "recipe.toml"
    whole = path.read_bytes()
    for torn in (whole[: len(whole) // 2], whole[:-1], b"", whole[:3] + b"x" + whole[4:]):
        path.write_bytes(torn)
        assert not again(run, site).known
        with pytest.raises(UserError, match="gone, or damaged"):
            again(run, site).text()
        again(run, site).accept(RECIPE)
        assert path.read_bytes() == whole
