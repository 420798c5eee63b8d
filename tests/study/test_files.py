"""A study's files are checked when they are read back: the study makes a damaged one again, a report refuses it."""

import random
from pathlib import Path

import pytest

from fedcmp.errors import UserError
from fedcmp.report.study.reading import load_study
from fedcmp.study.files import StudyFiles, read_record, write_json
from fedcmp.study.packing import pack_study
from fedcmp.study.recipe import StudyRecipe
from fedcmp.study.runner import Study
from fedcmp.study.tuning import MethodTuning

RECORD = {"format": 1, "hash": "ab", "scenario": "iid", "method": "fedavg", "seed": 1, "final": {"caption_loss": 0.5}}


def test_a_flipped_bit_is_found_and_logged_once(tmp_path, caplog):
    path = tmp_path / "seed-1.json"
    write_json(path, RECORD)
    assert read_record(path) == RECORD
    assert read_record(tmp_path / "absent.json") is None
    whole, draw, found = path.read_bytes(), random.Random(1), []
    for place in draw.sample(range(8 * len(whole)), 100):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        read = read_record(path)
        found.append(read is None or read.items() >= RECORD.items())
    assert all(found)
    path = tmp_path / "seed-2.json"
    path.write_bytes(whole.replace(b"0.5", b"0.7"))
    caplog.clear()
    for _ in range(3):
        assert read_record(path) is None
    (said,) = caplog.messages
    assert said.startswith(f"{path}: damaged (its content is not what was written")


@pytest.mark.parametrize("damage", ["", "[]", "{", "3", '{"hash": 3}', '{"format": 1, "checksum": "x"}'])
def test_a_study_goes_on_past_damaged_files_and_a_report_names_them(content, damage):
    study = StudyRecipe.model_validate(content)
    folder = Path(study.study.folder)
    files = StudyFiles(folder)
    for path in (files.run("image", "fedavg", 1), files.tuning("fedavg"), files.blind, files.facts("image", 1)):
        path.parent.mkdir(parents=True)
        path.write_text(damage)
    assert "runs" in Study(study, lambda _: None).estimate()
    tuning = MethodTuning(study, "fedavg", files.tuning("fedavg"))
    tuning.load()
    assert tuning.pending()
    files.write_study(study)
    (folder / "report").mkdir()
    (folder / "report" / "tables.md").touch()
    if damage != '{"hash": 3}':
        for read in (load_study, lambda study: pack_study(study, study / "packed.jsonl")):
            with pytest.raises(UserError) as raised:
                read(folder)
            assert "\n" not in str(raised.value)
