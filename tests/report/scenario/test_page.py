import re

import pytest

from fedcmp.report.scenario.page import render_scenario_page
from fedcmp.report.scenario.records import Shown

from ..test_page import Reader
from .fakes import JPEG, METRICS, PNG, client, facts, four, scenario

EVIL = "</script><script>alert(1)</script><b onclick='x'>\"$title"
SECTIONS = ["result", "sharpness", "maps", "heterogeneity", "clients", "made"]


def render(content, title="Scenarios"):
    return render_scenario_page(Shown.of(content), {"one": PNG, "two": JPEG}, title=title)


@pytest.fixture(scope="module")
def page():
    return render(four())


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


def sections(page):
    return [attributes["id"] for tag, attributes in Reader(page).tags if tag == "section"]


def test_the_page_asks_for_nothing_from_outside(reader, page):
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", page)


def test_ids_are_unique_and_links_lead_somewhere(reader):
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"} <= set(ids)


def test_every_colour_variable_is_defined(page):
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", page)) <= set(re.findall(r"(--[a-z0-9]+):", page))


def test_the_page_is_usable_without_sight_or_mouse(reader):
    assert [tag for tag, _ in reader.tags].count("h1") == 1
    assert all(attributes.get("aria-label") for tag, attributes in reader.tags if tag == "svg")
    assert all(attributes.get("alt") for tag, attributes in reader.tags if tag == "img")


def test_four_scenarios_stand_beside_each_other(reader, page):
    assert sections(page) == SECTIONS
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("svg") == 4 * 4 + 4
    assert tags.count("img") == 4 * 3
    assert [text for tag, text in reader.texts if tag == "summary"] == [*METRICS, "Each client's numbers"]


def test_the_same_facts_give_the_same_page(page):
    assert render(four()) == page


def test_photographs_and_drawings_are_told_apart():
    one = scenario(clients=2)
    one["clients"] = [client(0), client(1, picture="two")]
    page = render(facts(one))
    assert (page.count("data:image/png"), page.count("data:image/jpeg")) == (1, 1)
    photographs = [attributes for tag, attributes in Reader(page).tags if attributes.get("class") == "photo"]
    assert [attributes["src"][:15] for attributes in photographs] == ["data:image/jpeg"]


def test_without_images_the_page_says_why():
    one = scenario()
    for entry in one["clients"]:
        entry["words"], entry["nearest"] = [], []
    page = render(facts(one, missing="pairs.json: gone"))
    assert "No images and no words: pairs.json: gone" in page
    assert sections(page) == SECTIONS
    assert "<img" not in page


def test_few_pairs_make_a_page_without_maps():
    assert sections(render(facts(maps=False))) == [name for name in SECTIONS if name != "maps"]


def test_the_share_of_one_client_makes_a_page():
    page = render(facts(scenario("share", clients=1, silhouette=dict.fromkeys(METRICS))))
    assert "nothing to compare" in page


def test_clients_whose_cards_are_not_shown_are_counted():
    one = scenario(clients=3)
    one["clients"][2]["words"], one["clients"][2]["nearest"] = [], []
    assert "2 of 3 clients are shown." in render(facts(one))


def test_text_never_becomes_markup():
    one = scenario(EVIL)
    one["title"] = EVIL
    one["options"], one["versions"] = {EVIL: EVIL}, {EVIL: EVIL}
    one["clients"][0].update(name=EVIL, words=[[EVIL, 3.0]])
    one["clients"][0]["nearest"][0].update(id=EVIL, caption=EVIL)
    content = facts(one, missing=EVIL)
    content["embeddings"].update(model=EVIL, source=EVIL)
    reader = Reader(render(content, title=EVIL))
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 1
    assert "b" not in tags
    assert not any("onclick" in attributes for _, attributes in reader.tags)
