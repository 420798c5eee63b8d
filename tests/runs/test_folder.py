import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedcmp.checksums import sealed
from fedcmp.errors import UserError
from fedcmp.runs.best import Best
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.record_files import checkpoint_folders, read_records
from fedcmp.runs.records import Evaluation, Finished, RunRecord, ServerRound


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


def saved(run, losses, *, first=1, best=None):
    """Save a round per loss, as Rounds does; what was best before them is `best`."""
    for number, loss in enumerate(losses, start=first):
        best = Best.after(best, number, [Evaluation.from_line({"caption_loss": loss})])
        made = checkpoint(number, float(number))
        run.save(replace(made, state=made.state | (best.state() if best else {})))
    return best


def names(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_the_best_rounds_checkpoint_is_kept_without_the_servers_memory(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    saved(run, [0.5, 0.3, 0.4, 0.4, 0.4])
    assert names(run) == ["best-0001", "best-0002", "round-0004", "round-0005"]  # 1 was the best before 2
    assert sorted(path.name for path in (run.checkpoints / "best-0002").iterdir()) == [
        "projector.safetensors",
        "state.json",
    ]
    best = run.at("best")
    assert (best.round, best.server) == (2, {})
    assert torch.equal(best.projectors["global"]["w"], torch.full((2, 2), 2.0))
    assert [run.at(which).round for which in ("last", "5", "4", "1")] == [5, 5, 4, 1]
    assert run.resume().round == 5


def test_a_best_round_that_is_among_the_last_two_is_found_there(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    saved(run, [0.5, 0.4, 0.3])
    assert names(run) == ["round-0002", "round-0003"]
    assert run.at("best").round == 3
    saved(run, [0.2], first=4, best=Best(3, 0.3, before=2))
    assert (names(run), run.at("best").round) == (["round-0003", "round-0004"], 4)


def test_a_run_that_falls_back_by_one_round_still_has_its_best(tmp_path):
    """At every round: the last checkpoint is damaged, and removed as the message says; the best before it is kept."""
    losses = [0.5, 0.3, 0.4, 0.29, 0.6, 0.28, 0.27, 0.4]
    for number in range(2, len(losses) + 1):
        run = RunFolder(tmp_path / str(number))
        run.begin("")
        saved(run, losses[:number])
        shutil.rmtree(run.checkpoints / f"round-{number:04d}")
        state = run.resume().state
        want = min(range(1, number), key=lambda n: losses[n - 1])
        assert run.at("best").round == want
        saved(run, losses[number - 1 :], first=number, best=Best.read(state))
        undisturbed = RunFolder(tmp_path / f"{number}-undisturbed")
        undisturbed.begin("")
        saved(undisturbed, losses)
        assert names(run) == names(undisturbed)


@pytest.mark.parametrize("call", ["rename", "unlink", "rmtree"])
def test_the_best_survives_a_kill_at_any_moment_of_a_save(tmp_path, monkeypatch, call):
    losses, moments = [0.5, 0.3, 0.4, 0.45, 0.2, 0.6, 0.7], 0
    for moment in range(40):
        run = RunFolder(tmp_path / str(moment))
        run.begin("")
        left = moment

        def dying(original):
            def function(*given, **more):
                nonlocal left
                left -= 1
                if left == -1:
                    raise InterruptedError
                return original(*given, **more)

            return function

        with monkeypatch.context() as patch:
            place, name = ("shutil", "rmtree") if call == "rmtree" else ("pathlib.Path", call)
            patch.setattr(f"{place}.{name}", dying(getattr(shutil if call == "rmtree" else Path, name)))
            try:
                saved(run, losses)
            except InterruptedError:
                moments += 1
        resumed = run.resume()
        done, best = (resumed.round, Best.read(resumed.state)) if resumed else (0, None)
        if done:
            assert run.at("best").round == min(range(1, done + 1), key=lambda n: losses[n - 1])
        saved(run, losses[done:], first=done + 1, best=best)
        assert run.at("best").round == 5
        if done < len(losses):  # else nothing is saved any more that could clear up
            assert names(run) == ["best-0002", "best-0005", "round-0006", "round-0007"]
    assert moments >= 5


def test_a_run_that_starts_anew_has_no_best_of_before(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    saved(run, [0.1, 0.5, 0.6, 0.7])
    for path in checkpoint_folders(tmp_path):
        shutil.rmtree(path)
    assert run.resume() is None
    assert names(run) == []


def test_a_damaged_best_checkpoint_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    saved(run, [0.1, 0.5, 0.6])
    place = run.checkpoints / "best-0001" / "projector.safetensors"
    for damaged in flips(place, 50):
        place.write_bytes(damaged)
        with pytest.raises(UserError, match=r"best-0001: damaged checkpoint .*; nothing else needs it"):
            run.at("best")
    assert run.at("last").round == 3


def test_a_round_that_is_not_kept_is_one_line(tmp_path):
    run = RunFolder(tmp_path)
    run.begin("")
    saved(run, [math.nan, math.nan, math.nan])
    with pytest.raises(UserError, match=r"round best: no round of .* finite loss; kept are the rounds 2, 3"):
        run.at("best")
    for which in ("1", "newest", "-1", "04"):
        with pytest.raises(UserError, match=r"give best, last or a number: kept are the rounds 2, 3"):
            run.at(which)
    saved(run, [0.5], first=4, best=Best(1, 0.1))
    with pytest.raises(UserError, match=r"round best: the checkpoint of round 1 is not in .* any more; kept are"):
        run.at("best")


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


def begun(path, *, rounds):
    run = RunFolder(path)
    run.begin("[run]\n")
    run.log([RunRecord(method="fedavg", federated=True, rounds=rounds, clients=2, seed=0, versions={})])
    return run


def finished_run(path, *, rounds=3):
    run = begun(path, rounds=rounds)
    for number in range(1, rounds + 1):
        run.log([server_round(number)])
        run.save(checkpoint(number, number / 2))
    run.finish(Finished(seconds=1.0))
    return run


def test_a_run_is_finished_while_its_last_rounds_checkpoint_is_there(tmp_path):
    """As when that was damaged, and removed as the message says."""
    run = finished_run(tmp_path)
    assert run.finished
    shutil.rmtree(run.checkpoints / "round-0003")
    assert not run.finished
    with pytest.raises(UserError, match=r"end of its 3 rounds, but its last checkpoint is that of round 2; .*--resume"):
        run.last()
    assert run.resume().round == 2
    assert [line["kind"] for line in run.lines()] == ["run", "round", "round"]
    assert run.last().round == 2  # as of any run that is not finished
    shutil.rmtree(run.checkpoints)
    assert not run.finished


def test_checkpoints_are_in_the_order_of_their_rounds(tmp_path):
    run = begun(tmp_path, rounds=10_001)
    for number in (9_998, 9_999, 10_000, 10_001):
        run.save(checkpoint(number))
        assert run.last().round == number
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["round-10000", "round-10001"]
    (run.checkpoints / "round-0002.bak").mkdir()
    assert run.resume().round == 10_001


def flips(path, count, seed=0):
    """The content of a file with one bit of it flipped, `count` times."""
    whole, draw = path.read_bytes(), random.Random(f"{seed} {path.name}")
    for place in draw.sample(range(8 * len(whole)), min(count, 8 * len(whole))):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


@pytest.mark.parametrize("name", ["projector.safetensors", "server.safetensors", "state.json"])
def test_a_flipped_bit_in_a_checkpoint_is_found_or_changes_nothing(tmp_path, name):
    run = finished_run(tmp_path)
    path, before = run.checkpoints / "round-0003" / name, run.last()
    whole, said, unnoticed = path.read_bytes(), [], 0
    for damaged in flips(path, 150):
        path.write_bytes(damaged)
        try:
            found = run.last()
        except UserError as error:
            said.append(str(error))
            continue
        unnoticed += 1  # in state.json: in the checksum's own name, or in the case of a hexadecimal digit
        assert name == "state.json"
        assert torch.equal(found.projectors["global"]["w"], before.projectors["global"]["w"])
        assert found.state.items() >= before.state.items()
    path.write_bytes(whole)
    assert unnoticed < 15
    assert all("round-0003: damaged checkpoint" in line and "\n" not in line for line in said)
    assert run.last().round == 3


def test_a_flipped_bit_in_the_records_is_found_by_every_reader(tmp_path):
    run = finished_run(tmp_path)
    for damaged in flips(run.metrics, 100):
        run.metrics.write_bytes(damaged)
        with pytest.raises(UserError, match=r"metrics\.jsonl: (line \d: damaged|damaged|holds less)"):
            read_records(run.metrics)
        with pytest.raises(UserError):
            run.resume()
        with pytest.raises(UserError):
            _ = run.finished


def test_records_of_another_run_are_found(tmp_path):
    one, other = finished_run(tmp_path / "one"), begun(tmp_path / "other", rounds=3)
    for number in range(1, 8):
        other.log([server_round(number)])
    shutil.copy(other.metrics, one.metrics)
    with pytest.raises(UserError, match="records up to round 3 are not those that were written"):
        one.resume()


def test_a_checkpoint_that_is_another_rounds_is_found(tmp_path):
    run = finished_run(tmp_path)
    shutil.rmtree(run.checkpoints / "round-0003")
    shutil.copytree(run.checkpoints / "round-0002", run.checkpoints / "round-0003")
    with pytest.raises(UserError, match=r"round-0003: damaged .*is that of round 2"):
        run.last()


def test_a_run_of_a_version_without_checksums_is_read_with_one_line(tmp_path, caplog):
    run = finished_run(tmp_path)
    path = run.checkpoints / "round-0003" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({key: state[key] for key in ("method", "round", "projectors", "metrics_bytes")}))
    for _ in range(3):
        assert run.last().round == 3
    assert run.finished
    (said,) = caplog.messages
    assert said.endswith("round-0003: written by fedcmp 0.2.0 or before, without checksums: damage is not noticed")


@pytest.mark.parametrize(
    "changed",
    [
        {"projectors": [["global"]]},
        {"projectors": [{"global": 1}]},
        {"projectors": "global"},
        {"files": "projector.safetensors"},
        {"files": [1]},
        {"round": float("inf")},
        {"round": "1"},
        {"metrics_bytes": -1},
        {"metrics_bytes": 1e300},
        {"kept": 3},
        {"kept": {"first": 1}},
        {"kept": {"0": "1"}},
    ],
    ids=str,
)
def test_a_state_with_values_of_other_types_is_one_line(tmp_path, changed):
    """Its checksum is right: another program wrote it."""
    run = RunFolder(tmp_path)
    run.begin("")
    run.log([server_round(1)])
    run.save(checkpoint(1))
    path = run.checkpoints / "round-0001" / "state.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changed)))
    for read in (run.resume, run.last):
        with pytest.raises(UserError, match=r"round-0001: damaged checkpoint|holds less than round|are not those"):
            read()
    assert run.metrics.stat().st_size > 0
