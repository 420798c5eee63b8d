import os
import stat

import pytest

from fedcmp.deployment.private_files import check_private, private_folder, set_aside, write_new
from fedcmp.errors import UserError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_private_whatever_the_umask_and_is_never_written_over(tmp_path):
    before = os.umask(0)
    try:
        write_new(tmp_path / "key", b"first", mode=0o600)
    finally:
        os.umask(before)
    assert mode(tmp_path / "key") == 0o600
    with pytest.raises(UserError, match="is there already and is not written over"):
        write_new(tmp_path / "key", b"second", mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_disk_without_hard_links_takes_it_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_new(tmp_path / "key", b"first", mode=0o600)
    with pytest.raises(UserError, match="not written over"):
        write_new(tmp_path / "key", b"second", mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"first"


def test_a_folder_is_made_private(tmp_path):
    assert mode(private_folder(tmp_path / "a")) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        private_folder(tmp_path / "file")


def test_what_is_set_aside_is_kept(tmp_path):
    assert set_aside(tmp_path / "key") is None
    (tmp_path / "key").write_bytes(b"old")
    kept = set_aside(tmp_path / "key")
    assert kept.read_bytes() == b"old"
    assert not (tmp_path / "key").exists()


def test_a_key_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "key").touch(mode=0o600)
    check_private(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        check_private(tmp_path / "key")
