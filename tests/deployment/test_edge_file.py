"""EDGE.toml is read as SITE.toml is, and the two are told apart by their sections."""

from pathlib import Path

import pytest

from fedcmp.deployment.edge_file import EdgeServer, read_edge, read_joining
from fedcmp.deployment.edge_server import main
from fedcmp.deployment.site_file import Site
from fedcmp.errors import UserError

IDENTITY = '[site]\nname = "north"\nserver = "fl.example.org:8443"\n'


def write(folder: Path, text: str) -> Path:
    for name in ("ca.pem", "site.key"):
        (folder / name).touch()
    (folder / "EDGE.toml").write_text(text)
    return folder / "EDGE.toml"


def test_paths_start_at_the_files_folder_and_the_rest_has_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, IDENTITY + "[edge]\n")
    monkeypatch.chdir(tmp_path.parent)
    edge = read_joining(Path(tmp_path.name) / "EDGE.toml")
    assert isinstance(edge, EdgeServer)
    assert edge.edge.home == tmp_path / "server"
    assert (edge.edge.address, edge.edge.port) == ("0.0.0.0", 8443)
    assert (edge.site.key, edge.site.folder) == (tmp_path / "site.key", tmp_path / "state")


def test_a_file_without_a_section_edge_is_a_sites(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text("[]")
    path = write(tmp_path, IDENTITY + '[data]\nformat = "llava"\npairs = "pairs.json"\n')
    assert isinstance(read_joining(path), Site)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edge]\n", "EDGE.toml: site: missing"),
        (IDENTITY + "[edge]\nport = 0\n", "edge.port"),
        (IDENTITY + '[edge]\naddress = "https://x"\n', "neither a host's name nor an IP address"),
        (IDENTITY + "[edge]\nports = 1\n", "edge.ports"),
        (IDENTITY + '[edge]\n[data]\nformat = "llava"\npairs = "p.json"\n', "data: "),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_joining(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/EDGE.toml: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ca.pem", "site.key"])
def test_certificate_and_key_must_be_there(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, IDENTITY + "[edge]\n")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}.*no such file"):
        read_edge(path)
    assert read_edge(path, present=False).site.name == "north"


def test_without_certificates_of_its_own_it_says_how_to_make_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, IDENTITY + "[edge]\n")
    with pytest.raises(SystemExit) as ended:
        main([str(path), "--socket", str(tmp_path / "s")])
    assert ended.value.code == 2
    assert "fedcmp keys server" in capsys.readouterr().out
