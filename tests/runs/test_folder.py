import json

import pytest
import torch

from fedcmp.errors import UserError
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.records import Finished, ServerRound


def checkpoint(number, value=0.0):
    return Checkpoint(
        number, {"global": {"w": torch.full((2, 2), value)}}, {"memory": torch.tensor([value])}, {"method": "x"}
    )


def test_a_checkpoint_comes_back(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.save(checkpoint(1, 0.5))
    back = run.resume()
    assert back is not None
    assert back.round == 1
    assert torch.equal(back.projectors["global"]["w"], torch.full((2, 2), 0.5))
    assert torch.equal(back.server["memory"], torch.tensor([0.5]))


def test_several_learners_keep_their_names(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    projectors = {"client-0": {"w": torch.zeros(2)}, "client-1": {"w": torch.ones(2)}}
    run.save(Checkpoint(3, projectors, {}, {}))
    back = run.last()
    assert back.projectors.keys() == projectors.keys()
    assert torch.equal(back.projectors["client-1"]["w"], torch.ones(2))


def server_round(number):
    return ServerRound(round=number, seconds=1.0, bytes_sent=0, diagnostics={})


def test_resuming_cuts_what_a_killed_round_had_written(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.log([server_round(1)])
    run.save(checkpoint(1))
    run.log([server_round(2)])
    with run.metrics.open("a") as file:
        file.write('{"kind": "rou')
    assert len(run.lines()) == 2  # a torn last line is no record
    run.resume()
    assert [line["round"] for line in run.lines()] == [1]


def test_a_run_killed_in_its_first_round_starts_anew(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.log([Finished(seconds=1.0)])
    assert run.resume() is None
    assert run.lines() == []


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.save(checkpoint(1))
    unfinished = run.checkpoints / ".round-0002.unfinished"
    unfinished.mkdir()
    (unfinished / "projector.safetensors").write_bytes(b"half")
    assert run.last().round == 1
    run.save(checkpoint(2))
    assert run.last().round == 2


def test_two_checkpoints_are_kept(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    for number in range(1, 5):
        run.save(checkpoint(number))
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["round-0003", "round-0004"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.save(checkpoint(1))
    (run.checkpoints / "round-0001" / "projector.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="round-0001: damaged checkpoint"):
        run.resume()


def test_damaged_records_are_named(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    missing = ServerRound(round=1, seconds=1.0, bytes_sent=0, diagnostics={}, missing=["a\u2028b"])
    run.log([missing, server_round(2)])
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole + b'{"kind": "rou')  # a kill
    assert len(run.lines()) == 2
    run.metrics.write_bytes(whole + b'{"kind": bro\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 3: damaged .*--overwrite"):
        run.lines()


def test_records_that_a_checkpoint_knows_of_must_be_there(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    run.log([server_round(1)])
    run.save(checkpoint(1))
    run.metrics.write_bytes(b"")
    with pytest.raises(UserError, match=r"metrics\.jsonl: holds less than round 1 had written"):
        run.resume()
    assert run.metrics.read_bytes() == b""


def test_files_can_be_read_without_fedcmp(tmp_path):
    from safetensors.torch import load_file

    run = RunFolder(tmp_path)
    run.begin("[run]\n")
    run.save(checkpoint(7, 2.0))
    folder = tmp_path / "checkpoints" / "round-0007"
    assert load_file(folder / "projector.safetensors")["w"].sum() == 8
    assert json.loads((folder / "state.json").read_text())["round"] == 7


def test_no_checkpoint_is_an_error_that_says_so(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        RunFolder(tmp_path).last()
