from fedcmp.config import Recipe
from fedcmp.config.keys import recipe_keys
from tests.cli.test_cli import invoke


def test_all_keys_are_listed():
    shown = [line for line in invoke("config").stdout.splitlines() if not line.startswith(" ")]
    assert shown == [key.place for key in recipe_keys(Recipe)]


def test_a_sites_keys_are_explained():
    shown = invoke("config", "--site", "send.allow").stdout
    assert shown.startswith("send.allow\n")
    assert "what may leave the site" in shown


def test_a_key_is_explained():
    lines = invoke("config", "federation.participation").stdout.splitlines()
    assert lines[0] == "federation.participation"
    assert lines[1].strip() == "number, above 0, at most 1; default 1.0"
    assert lines[2].startswith("    ")


def test_a_section_and_a_bare_name_find_their_keys():
    section = invoke("config", "[federation]").stdout
    assert "federation.rounds" in section
    assert "training." not in section
    assert "training.batch_size" in invoke("config", "batch_size").stdout
    assert "method.NAME.learning_rate" in invoke("config", "method.fedavg.learning_rate").stdout


def test_a_methods_options_are_shown_with_their_defaults():
    for name in ("fedadam", "method.fedadam"):
        assert "method.fedadam.options.beta_1 = 0.9" in invoke("config", name).stdout
    assert "method.fedprox.objective_options.mu = " in invoke("config", "fedprox").stdout


def test_a_studys_keys_are_shown_on_request():
    assert "tuning.rungs[].trials" in invoke("config", "--study", "tuning").stdout


def test_a_mistyped_key_gets_the_nearest():
    assert str(invoke("config", "federation.round").exception) == (
        "federation.round: a recipe has no such key; did you mean federation.rounds?"
    )
    assert "`fedcmp config` lists all" in str(invoke("config", "qqqqqqqq").exception)
    assert str(invoke("config", "fedavgg").exception).endswith("did you mean fedavg?")


def test_what_holds_without_a_key_is_not_called_no_default():
    shown = invoke("config", "training.learning_rate").stdout
    assert "default: worked out for each method" in shown
    assert "no default" not in shown
