import pytest

from tests.cli.test_cli import invoke

RECIPE = '[run]\nname = "a"\nmethods = ["fedavg"]\n[deployment]\nsites = ["a"]\n'


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "server" / "federation.toml"
    path.parent.mkdir()
    path.write_text(RECIPE)
    return path


def test_serve_needs_a_recipe_or_a_lab(tmp_path):
    assert "give the recipe of a run, or --new-lab DIR" in str(invoke("serve").exception)
    assert "give the recipe of a run, or --new-lab DIR" in str(invoke("serve", "a.toml", "--new-lab", "b").exception)


def test_what_a_server_lacks_is_told_with_the_command_that_makes_it(tmp_path, recipe):
    from fedcmp.deployment.site_keys import make_site_key

    home = recipe.parent
    assert f"fedcmp keys add {home} a FILE.pub" in str(invoke("serve", str(recipe)).exception)
    make_site_key(tmp_path / "a.key", "a")
    invoke("keys", "add", str(home), "a", str(tmp_path / "a.key.pub"))
    assert f"fedcmp keys server {home} --address HOST" in str(invoke("serve", str(recipe)).exception)
    recipe.write_text(RECIPE.replace('["a"]\n', '["a"]\n', 1).replace('sites = ["a"]', "sites = []"))
    assert "data.num_pairs" in str(invoke("serve", str(recipe)).exception)
    assert "--address" in str(invoke("serve", str(recipe), "--address", "https://x").exception)


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path, recipe):
    import socket

    from fedcmp.deployment.site_keys import make_site_key

    make_site_key(tmp_path / "a.key", "a")
    invoke("keys", "add", str(recipe.parent), "a", str(tmp_path / "a.key.pub"))
    invoke("keys", "server", str(recipe.parent), "--address", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--address", "127.0.0.1", "--port", str(taken.getsockname()[1])]
        assert "cannot be listened on" in str(invoke("serve", str(recipe), *options).exception)
    (recipe.parent / "runs" / "a").mkdir(parents=True)
    (recipe.parent / "runs" / "a" / "recipe.toml").touch()
    assert "--resume to continue it" in str(invoke("serve", str(recipe), "--address", "127.0.0.1").exception)


def test_train_says_what_becomes_of_a_deployment(recipe):
    assert "are at the sites: run it with `fedcmp serve`" in str(invoke("train", str(recipe)).exception)
    assert "are at the sites: run it with `fedcmp serve`" in str(invoke("train", str(recipe), "--plan").exception)
    planned = invoke("train", str(recipe), "--plan", "-o", "data.num_pairs=200")
    assert "simulating the 1 site with the pairs of [data]" in planned.stderr
