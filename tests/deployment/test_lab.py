import json
import tarfile

import pytest

from fedcmp.config import load_recipe
from fedcmp.deployment.certificates import check_certificates
from fedcmp.deployment.lab import new_lab
from fedcmp.deployment.server_folder import ServerFolder
from fedcmp.deployment.site_file import read_site
from fedcmp.deployment.site_keys import read_site_key, registered_sites
from fedcmp.errors import UserError


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    pytest.importorskip("pyarrow")
    return new_lab(tmp_path_factory.mktemp("lab") / "new", sites=3, pairs=20, port=9443)


def test_a_lab_is_ready_to_serve_and_to_join(lab):
    recipe = load_recipe(lab.recipe, present=True)
    assert recipe.deployment.sites == ["site-1", "site-2", "site-3"]
    assert recipe.scenario.clients == 3
    server = ServerFolder(lab.recipe.parent)
    assert check_certificates(server.certificates) == []
    registered = {site.name: site.key for site in registered_sites(server.sites)}
    sites = [read_site(path) for path in lab.site_files]
    assert [site.data.format for site in sites] == ["llava", "webdataset", "parquet"]
    for site in sites:
        assert registered[site.site.name] == read_site_key(site.site.key)
        assert site.site.server == "127.0.0.1:9443"
        assert set(recipe.run.methods) <= set(site.accept.methods)
    assert lab.commands[0] == f"fedcmp serve {lab.recipe} --address 127.0.0.1 --port 9443"
    assert len(lab.commands) == 5


def test_no_two_sites_share_a_pair_and_their_styles_differ(lab):
    import pyarrow.parquet as pq

    folders = [path.parent / "pairs" for path in lab.site_files]
    pairs = json.loads((folders[0] / "pairs.json").read_text())
    first = {pair["id"]: pair["style"] for pair in pairs}
    with tarfile.open(folders[1] / "shard-0000.tar") as tar:
        inside = [tar.extractfile(name) for name in tar.getnames() if name.endswith(".json")]
        names = [name for name in tar.getnames() if name.endswith(".json")]
        second = {name[:-5]: json.load(file)["style"] for name, file in zip(names, inside, strict=True)}
    table = pq.read_table(folders[2] / "pairs.parquet").to_pydict()
    third = dict(zip(table["id"], table["style"], strict=True))
    assert [len(site) for site in (first, second, third)] == [20, 20, 20]
    assert not set(first) & set(second)
    assert not set(second) & set(third)
    assert not set(first.values()) & set(second.values())


def test_a_lab_replaces_nothing(lab, tmp_path):
    with pytest.raises(UserError, match="is not empty"):
        new_lab(lab.recipe.parents[1], sites=1, pairs=20, port=9443)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not empty"):
        new_lab(tmp_path / "file", sites=1, pairs=20, port=9443)
