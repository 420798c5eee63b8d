import pytest

from tests.cli.test_cli import invoke


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "a" / "SITE.toml"
    path.parent.mkdir()
    path.write_text('[site]\nname = "a"\nserver = "127.0.0.1:8443"\n[data]\nformat = "llava"\npairs = "pairs.json"\n')
    return path


def test_a_sites_key_is_made_registered_listed_and_removed(tmp_path, site):
    made = invoke("keys", "new", str(site))
    fingerprint = made.stdout.splitlines()[0].removeprefix("key of a: ")
    assert fingerprint.startswith("SHA256:")
    assert "PRIVATE" not in made.output
    home = str(tmp_path / "server")
    assert invoke("keys", "add", home, "a", str(site.parent / "site.key.pub")).stdout == f"a: {fingerprint}\n"
    assert invoke("keys", "list", home).stdout.split() == ["a", fingerprint]
    assert "is there already" in str(invoke("keys", "new", str(site)).exception)
    assert invoke("keys", "new", str(site), "--rotate").exit_code == 0
    again = ["keys", "add", home, "a", str(site.parent / "site.key.pub")]
    assert "--replace" in str(invoke(*again).exception)
    assert invoke(*again, "--replace").exit_code == 0
    assert "a: registered no more" in invoke("keys", "remove", home, "a").stdout
    assert invoke("keys", "list", home).stdout == ""
    assert "no keys are registered" in invoke("keys", "list", home).stderr


def test_the_servers_certificate_is_made_and_renewed(tmp_path):
    home = str(tmp_path / "server")
    assert "--address: give" in str(invoke("keys", "server", home).exception)
    made = invoke("keys", "server", home, "--address", "fl.example.org", "--address", "10.0.0.1").stdout
    assert made.startswith("server certificate for fl.example.org, localhost, 10.0.0.1, 127.0.0.1, ::1, until ")
    assert f"for the sites: {home}/certificates/ca.pem" in made
    assert "--renew replaces it" in str(invoke("keys", "server", home, "--address", "b.org").exception)
    renewed = invoke("keys", "server", home, "--renew").stdout
    assert renewed.startswith("server certificate for fl.example.org, localhost, 10.0.0.1, 127.0.0.1, ::1, until ")
