import json
import shutil

import pandas
import pytest
from PIL import Image

import fedcmp
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.reading import load_runs


def test_a_run_is_opened_with_its_methods(short_run):
    run = fedcmp.load(short_run.folder)
    assert (run.methods, run.best, run.finished) == (["fedavg", "local"], "fedavg", True)
    assert repr(run) == f"Run({str(run.folder)!r}: fedavg, local)"
    assert fedcmp.load(short_run.folder / "local").methods == ["local"]
    assert fedcmp.load(short_run.folder / "local").best is None


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(fedcmp.UserError, match="no such folder"):
        fedcmp.load(tmp_path / "none")
    with pytest.raises(fedcmp.UserError, match="no run in it"):
        fedcmp.load(tmp_path)


def test_an_unfinished_run_says_so(short_run, tmp_path):
    shutil.copytree(short_run.folder / "fedavg", tmp_path / "fedavg")
    shutil.rmtree(tmp_path / "fedavg" / "checkpoints")
    metrics = tmp_path / "fedavg" / "metrics.jsonl"
    metrics.write_text("".join(line for line in metrics.open() if '"finished"' not in line))
    run = fedcmp.load(tmp_path / "fedavg")
    assert not run.finished
    assert "unfinished" in repr(run)


def test_the_table_holds_the_measured_figures(short_run):
    table = short_run.table
    assert isinstance(table, pandas.DataFrame)
    assert list(table.index) == ["fedavg", "local", "blind", "initial"]
    measured = {run.method: run for run in load_runs(short_run.folder)}["fedavg"]
    (last,) = measured.measures("test")[1]
    assert table.loc["fedavg", "caption_loss"] == last.caption_loss
    assert table.loc["fedavg", "question_accuracy"] == last.question_accuracy
    assert table.loc["fedavg", "bytes_sent"] == measured.num_bytes
    assert table.loc["blind", "caption_loss"] == measured.reference("blind").caption_loss
    assert table["caption_loss_sd"].isna().all()  # one seed
    assert table["seconds"].dtype == float
    assert "<table" in short_run._repr_html_()


def test_without_pandas_the_table_is_our_own(short_run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    table = short_run.table
    assert isinstance(table, fedcmp.ResultTable)
    assert [row["method"] for row in table] == ["fedavg", "local", "blind", "initial"]
    assert table["fedavg"]["caption_loss"] == pytest.approx(table.to_pandas().loc["fedavg", "caption_loss"])
    with pytest.raises(KeyError, match="there are fedavg, local, blind, initial"):
        table["fedprox"]
    assert repr(table).splitlines()[0].startswith("method")
    assert short_run._repr_html_().count("<tr>") == 5


def test_a_table_escapes_what_it_shows():
    table = fedcmp.ResultTable(({"method": "<b>"} | dict.fromkeys(fedcmp.api.table.UNITS, None) | {"method": "<b>"},))
    assert "<b>" not in table._repr_html_()


def test_the_report_is_written(short_run, tmp_path):
    assert short_run.report(tmp_path / "page") == tmp_path / "page" / "index.html"
    assert (tmp_path / "page" / "index.html").read_text().startswith("<!DOCTYPE html>")


def test_captions_are_those_of_the_runs_samples(short_run):
    (sample,) = json.loads((short_run.folder / "fedavg" / "samples.json").read_text())
    image = short_run.folder / "fedavg" / sample["image"]
    assert short_run.caption(image, max_tokens=3) == sample["captions"]["fedavg"]
    assert short_run.caption(Image.open(image), max_tokens=3) == sample["captions"]["fedavg"]
    assert short_run.caption(image.read_bytes(), max_tokens=3) == sample["captions"]["fedavg"]
    (sample,) = json.loads((short_run.folder / "local" / "samples.json").read_text())
    for client in (0, 1):
        said = short_run.caption(image, method="local", client=client, max_tokens=3)
        assert said == sample["captions"][f"client-{client}"]


def test_frozen_models_are_loaded_once_and_the_projector_at_every_call(short_run, tmp_path, monkeypatch):
    shutil.copytree(short_run.folder, tmp_path / "short")
    run = fedcmp.load(tmp_path / "short")
    image = Image.new("RGB", (48, 48), "red")
    before = run.caption(image, method="fedavg", max_tokens=8)
    monkeypatch.setattr("fedcmp.finished.captioner.load_language", None)  # not called again
    kept = RunFolder(tmp_path / "short" / "fedavg")
    last = kept.last()
    turned = {name: -tensor for name, tensor in last.projectors["global"].items()}
    kept.save(Checkpoint(last.round + 1, {"global": turned}, last.server, last.state))
    assert run.caption(image, method="fedavg", max_tokens=8) != before
    assert run.caption(image, method="fedavg", round="best", max_tokens=8) == before
    assert run.caption(image, method="fedavg", round=last.round, max_tokens=8) == before
    with pytest.raises(fedcmp.UserError, match="round 9: "):
        run.export(tmp_path / "none", method="fedavg", round=9)


def test_the_blind_llm_does_not_see_the_image(short_run):
    red, blue = (Image.new("RGB", (48, 48), colour) for colour in ("red", "blue"))
    assert short_run.caption(red, method="blind", max_tokens=4) == short_run.caption(blue, method="blind", max_tokens=4)
    assert isinstance(short_run.caption(red, method="initial", max_tokens=4), str)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fedprox"}, "no method 'fedprox'; there are fedavg, local"),
        ({"method": "local"}, "--client"),
        ({"method": "fedavg", "client": 1}, "one projector for all clients"),
        ({"max_tokens": 0}, "max_tokens = 0: must be at least 1"),
    ],
)
def test_a_caption_that_cannot_be_written_is_refused(short_run, options, message):
    with pytest.raises(fedcmp.UserError, match=message):
        short_run.caption(Image.new("RGB", (9, 9)), **options)


def test_a_file_that_is_no_image_is_named(short_run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"<html>")
    with pytest.raises(fedcmp.UserError, match=r"a\.png: not an image; give an image file"):
        short_run.caption(tmp_path / "a.png")
    with pytest.raises(fedcmp.UserError, match=r"b\.png: cannot be read \(No such file"):
        short_run.caption(tmp_path / "b.png")


def test_an_export_is_the_methods_own(short_run, tmp_path):
    folder = short_run.export(tmp_path / "exported")
    assert (folder / "config.json").is_file()
    with pytest.raises(fedcmp.UserError, match="there are fedavg, local"):
        short_run.export(tmp_path / "other", method="moon")
