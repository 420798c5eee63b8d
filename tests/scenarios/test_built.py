"""A scenario on disk: the same bytes every time, whole or not at all, and every change noticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedcmp.errors import UserError
from fedcmp.scenarios.building import BuildOptions, build_scenario
from fedcmp.scenarios.built import BuiltScenario, split
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import groups_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    images, texts, _ = groups_of(3, per=40)
    folder = embedding_folder(tmp_path_factory.mktemp("built") / "EMB", images, texts)
    return build_scenario(folder, BuildOptions(clients=3, rounds=2, cap=30))


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_scenario_has_the_same_bytes_and_comes_back(built, tmp_path):
    built.write(tmp_path / "a")
    built.write(tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    again = BuiltScenario.read(tmp_path / "a")
    assert again.clients == built.clients
    assert again.hash == built.hash
    assert again.name == "image, 3 clients"
    assert all(np.array_equal(again.centroids[part], built.centroids[part]) for part in ("image", "text"))


def test_lists_can_be_read_without_the_package(built, tmp_path):
    built.write(tmp_path / "scenario")
    first = (tmp_path / "scenario" / "clients" / "client-0" / "round-01.txt").read_text().splitlines()
    assert tuple(first) == built.clients[0].rounds[0]
    content = json.loads((tmp_path / "scenario" / "manifest.json").read_text())
    assert [client["pairs"] for client in content["clients"]] == [client.size for client in built.clients]
    assert content["options"]["cap"] == 30


def test_what_is_there_is_replaced_only_when_asked(built, tmp_path):
    built.write(tmp_path / "scenario")
    with pytest.raises(UserError, match="is there already: choose another --out, or give --overwrite"):
        built.write(tmp_path / "scenario")
    built.write(tmp_path / "scenario", overwrite=True)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="is no scenario, so it is not overwritten"):
        built.write(tmp_path / "holiday", overwrite=True)
    assert (tmp_path / "holiday" / "photo.jpg").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday", "scenario"]  # nothing half-written


@pytest.mark.parametrize("name", ["clients/client-1/round-02.txt", "clients/client-0/held-out.txt"])
def test_a_changed_list_is_named(built, tmp_path, name):
    built.write(tmp_path / "scenario")
    path = tmp_path / "scenario" / name
    path.write_text(path.read_text() + "one-more\n")
    with pytest.raises(UserError, match=rf"{path.name}: was changed since the scenario was built"):
        BuiltScenario.read(tmp_path / "scenario")


def test_a_missing_list_or_folder_is_named(built, tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: not there"):
        BuiltScenario.read(tmp_path / "nowhere")
    built.write(tmp_path / "scenario")
    (tmp_path / "scenario" / "clients" / "client-1" / "round-02.txt").unlink()
    with pytest.raises(UserError, match=r"client-1/round-02\.txt: not there"):
        BuiltScenario.read(tmp_path / "scenario")


def test_each_client_gets_its_own_share_only(built, tmp_path):
    paths = split(built, tmp_path / "shares")
    assert [path.name for path in paths] == ["client-0", "client-1", "client-2"]
    share = BuiltScenario.read(paths[1])
    assert share.clients == (built.clients[1],)
    assert np.array_equal(share.centroids["image"], built.centroids["image"][1:2])
    told = b"".join(bytes_of(paths[1]).values()).decode(errors="replace")
    assert not any(name in told for client in (built.clients[0], built.clients[2]) for name in client.rounds[0])
    with pytest.raises(UserError, match="is there already"):
        split(built, tmp_path / "shares")


def test_more_than_99_rounds_keep_their_order(tmp_path):
    images, texts, _ = groups_of(2, per=120)
    folder = embedding_folder(tmp_path / "EMB", images, texts)
    built = build_scenario(folder, BuildOptions(clients=1, rounds=101))
    built.write(tmp_path / "scenario")
    assert BuiltScenario.read(tmp_path / "scenario").clients == built.clients


def test_another_manifest_is_no_scenario(built, tmp_path):
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "manifest.json").write_text('{"format": 1, "clients": []}')
    with pytest.raises(UserError, match="is no scenario, so it is not overwritten"):
        built.write(tmp_path / "prepared", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is no scenario"):
        built.write(tmp_path / "file", overwrite=True)


def test_what_stood_there_comes_back_when_writing_fails(built, tmp_path, monkeypatch):
    built.write(tmp_path / "scenario")
    before = bytes_of(tmp_path / "scenario")
    real = Path.rename

    def failing(self, target):
        if self.name.startswith("scenario.") and ".old." not in self.name:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError, match="cannot be written"):
        built.write(tmp_path / "scenario", overwrite=True)
    assert bytes_of(tmp_path / "scenario") == before
    assert [path.name for path in tmp_path.iterdir()] == ["scenario"]


def test_a_manifest_cannot_reach_out_of_its_folder(built, tmp_path):
    built.write(tmp_path / "scenario")
    path = tmp_path / "scenario" / "manifest.json"
    path.write_text(path.read_text().replace('"client-1"', '"../../client-1"'))
    with pytest.raises(UserError, match=r"'\.\./\.\./client-1' is no plain name"):
        BuiltScenario.read(tmp_path / "scenario")
