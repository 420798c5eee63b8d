"""Numbers without sense, names and paths that would only fail later: refused where they stand."""

import pytest

from fedcmp.config import Recipe
from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL, load

CLIENTS = '[data]\nformat = "llava"\n[scenario]\nkind = "given"\n'


def client(name):
    return f"[[data.clients]]\nname = {name}\npairs = 'a.json'\n"


def whole_numbers():
    """Every key of the recipe that holds a whole number."""
    found = []
    for section, field in Recipe.model_fields.items():
        for key, own in getattr(field.annotation, "model_fields", {}).items():
            if "int" in str(own.annotation) and "dict" not in str(own.annotation):
                found.append((section, key))
    assert ("evaluation", "samples") in found
    assert len(found) > 15
    return found


@pytest.mark.parametrize("value", [2**70, -(2**70), 2**64])
@pytest.mark.parametrize(("section", "key"), whole_numbers(), ids=".".join)
def test_no_whole_number_is_without_bounds(tmp_path, section, key, value):
    with pytest.raises(UserError, match=rf"{section}\.{key} = {value}: ") as caught:
        load(tmp_path, MINIMAL, [f"{section}.{key}={value}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("training.learning_rate=1e300", "at most 1000"),
        ("federation.deadline=1e300", "at most"),
        ("run.save_seconds=1e300", "at most"),
        ("training.max_gradient_norm=1e300", "at most"),
        ("training.weight_decay=1e300", "at most"),
        ("method.fedavg.learning_rate=1e31", "at most 1000"),
        ("scenario.rate_factors.0=1e300", "at most"),
        ("run.folder=''", "must name a file or folder"),
        ('run.cache="a\\u0000b"', "without NUL characters"),
        ('run.folder="a\\nb"', "without NUL characters and line breaks"),
        ("run.name='" + "a" * 101 + "'", "must match|should match"),
        ('model.separator=""', "at least 1 character"),
        ('model.separator="<image>"', "stands for the image itself"),
        ('model.separator="a\\u0000"', "without NUL"),
        ('model.language="a\\u0000/b"', "without NUL"),
        ("scenario.rate_factors.03=2.0", r"rate_factors\.03: no such client"),
        ("scenario.wrong_captions.٣=0.5", "no such client"),
        ("scenario.rate_factors.-1=2.0", "no such client"),
        ("federation.min_clients=6", "more than the 5 of 5 clients"),
        ("evaluation.captions=" + "9" * 5000, "not a value of TOML"),
        ("run.seed=1\nfoo=2", "sets several values"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, option, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, MINIMAL, [option])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700 + 2 * len(option)


@pytest.mark.parametrize(
    "name",
    [
        '""',
        '" "',
        '"a "',
        '"../up"',
        '"a/b"',
        '"a\\\\b"',
        '".."',
        '"a\\nb"',
        '"a\\u0000"',
        '"a\\u202eb"',
        f'"{"a" * 201}"',
    ],
)
def test_a_clients_name_can_be_a_folders(tmp_path, name):
    with pytest.raises(UserError, match=r"data\.clients\.0\.name = .*must be a name"):
        load(tmp_path, CLIENTS + client(name))


@pytest.mark.parametrize("other", ["Nord", "nord", "NORD"])
def test_clients_names_differ_by_more_than_case(tmp_path, other):
    with pytest.raises(UserError, match=r"data\.clients: two clients have"):
        load(tmp_path, CLIENTS + client('"Nord"') + client(f'"{other}"'))


def test_methods_names_differ_by_more_than_case(tmp_path):
    text = MINIMAL + '[run]\nmethods = ["fedavg", "FedAvg"]\n[method.FedAvg]\naggregator = "fedavg"\n'
    with pytest.raises(UserError, match="two methods have names that differ only in case, 'fedavg' and 'FedAvg'"):
        load(tmp_path, text)


def test_a_long_value_is_not_repeated(tmp_path):
    with pytest.raises(UserError, match=r"\.\.\.: must be") as caught:
        load(tmp_path, MINIMAL + f'[federation]\nrounds = "{"a" * 5000}"\n')
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x = " + b"[" * 100_000, "not valid TOML"),
        (b"x = " + b"9" * 5000, "not valid TOML"),
        (b"#" * 16_000_001, "is larger than 16 MB"),
    ],
    ids=["no text", "deep", "long number", "large"],
)
def test_what_is_no_recipe_is_named(tmp_path, content, message):
    from fedcmp.config import load_recipe

    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        load_recipe(tmp_path)


def test_a_mark_in_front_of_the_text_is_passed_over(tmp_path):
    from fedcmp.config import load_recipe

    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe(path).data.num_pairs == 100
