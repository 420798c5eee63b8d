import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedcmp.deployment.site_keys import (
    check_site_name,
    make_site_key,
    public_path,
    read_public_key,
    read_site_key,
    register_site,
    registered_sites,
    remove_site,
)
from fedcmp.errors import UserError


def test_a_key_is_one_that_flower_takes_and_its_fingerprint_is_opensshs(tmp_path):
    made = make_site_key(tmp_path / "site.key", "a")
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600
    assert (tmp_path / "site.key").read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert read_site_key(tmp_path / "site.key") == made == read_public_key(tmp_path / "site.key.pub")
    assert made.line.startswith("ecdsa-sha2-nistp384 ")
    if shutil.which("ssh-keygen"):
        command = ["ssh-keygen", "-l", "-f", str(tmp_path / "site.key.pub")]
        assert made.fingerprint in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_key_is_not_written_over_and_a_rotated_one_is_kept(tmp_path):
    first = make_site_key(tmp_path / "site.key", "a")
    with pytest.raises(UserError, match="--rotate"):
        make_site_key(tmp_path / "site.key", "a")
    second = make_site_key(tmp_path / "site.key", "a", rotate=True)
    assert second.fingerprint != first.fingerprint
    assert read_site_key(tmp_path / "site.key") == second
    (kept,) = tmp_path.glob("site.key.until-*")
    assert read_site_key(kept) == first


def test_a_private_key_that_others_can_read_is_refused(tmp_path):
    make_site_key(tmp_path / "site.key", "a")
    (tmp_path / "site.key").chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_site_key(tmp_path / "site.key")


def test_sites_are_registered_replaced_and_removed(tmp_path):
    sites = tmp_path / "sites"
    first = make_site_key(tmp_path / "a.key", "a")
    assert register_site(sites, "a", public_path(tmp_path / "a.key")).key == first
    assert register_site(sites, "a", public_path(tmp_path / "a.key")).key == first  # the same again
    make_site_key(tmp_path / "b.key", "b")
    register_site(sites, "b", public_path(tmp_path / "b.key"))
    assert [site.name for site in registered_sites(sites)] == ["a", "b"]
    second = make_site_key(tmp_path / "a.key", "a", rotate=True)
    with pytest.raises(UserError, match="a has another key"):
        register_site(sites, "a", public_path(tmp_path / "a.key"))
    register_site(sites, "a", public_path(tmp_path / "a.key"), replace=True)
    assert registered_sites(sites)[0].key == second
    with pytest.raises(UserError, match="is the key of a already"):
        register_site(sites, "c", public_path(tmp_path / "a.key"))
    make_site_key(tmp_path / "c.key", "c")
    with pytest.raises(UserError, match="differs from a only in case"):
        register_site(sites, "A", public_path(tmp_path / "c.key"))
    remove_site(sites, "a")
    assert [site.name for site in registered_sites(sites)] == ["b"]
    with pytest.raises(UserError, match="registered: b"):
        remove_site(sites, "a")


def test_only_a_public_key_that_flower_takes_is_registered(tmp_path):
    make_site_key(tmp_path / "a.key", "a")
    with pytest.raises(UserError, match="must not leave the site"):
        register_site(tmp_path / "sites", "a", tmp_path / "a.key")
    for name, key in {
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "k1": ec.generate_private_key(ec.SECP256K1()),
    }.items():
        path = tmp_path / f"{name}.pub"
        try:
            path.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        except ValueError:  # OpenSSH knows no such curve
            continue
        with pytest.raises(UserError, match="P-384"):
            register_site(tmp_path / "sites", "a", path)
    (tmp_path / "no.pub").write_text("ssh-ed25519 nothing")
    for path, said in ((tmp_path / "no.pub", "is not a public key"), (tmp_path / "none.pub", "cannot be read")):
        with pytest.raises(UserError, match=said):
            register_site(tmp_path / "sites", "a", path)
    assert registered_sites(tmp_path / "sites") == []


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a b", "a\n", "x" * 101])
def test_a_name_that_is_no_files_is_refused(name):
    with pytest.raises(UserError, match="a site's name has letters"):
        check_site_name(name)
