import json
import re

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.page import render_study_page

from ..test_page import Reader
from .fakes import add_run, run_content, write_json, write_study

EVIL = "</script><script>alert(1)</script><b onclick='x'>\"$title"


@pytest.fixture(scope="module")
def page(results):
    return render_study_page(results, title="study")


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


def test_the_page_asks_for_nothing_from_outside(reader, page):
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "base", "form", "img")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", page)


def test_ids_are_unique_and_links_lead_somewhere(reader):
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"} <= set(ids)
    assert {a["clip-path"][5:-1] for _, a in reader.tags if "clip-path" in a} <= set(ids)


def test_every_colour_variable_is_defined(page):
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", page)) <= set(re.findall(r"(--[a-z0-9]+):", page))


def test_the_page_is_usable_without_sight_or_mouse(reader):
    assert [tag for tag, _ in reader.tags].count("h1") == 1
    drawings = [attributes for tag, attributes in reader.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert drawings
    assert all(attributes.get("aria-label") for attributes in drawings)
    assert all(attributes.get("type") == "button" for tag, attributes in reader.tags if tag == "button")


def test_the_sections_of_a_whole_study(reader):
    sections = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    assert sections == [
        *(
            "result",
            "winners",
            "tables",
            "tests",
            "distance",
            "trajectories",
            "ablations",
            "further",
            "maps",
            "tuning",
            "versions",
        ),
    ]


def test_the_first_screen_answers(page):
    texts = (
        "Toy world: drawn scenes of 48 x 48 pixels, frozen models of 4 MB.",
        "4 of 4 scenarios",
        "Caption loss of every method in every scenario",
        "Where to look next",
        "Who wins in each scenario",
        "wins 4 of 4 scenarios",
        "Methods by",
    )
    body = page.partition("</nav>")[2]
    places = [page.index(texts[0]), *(page.index(body) + body.index(text) for text in texts[1:])]
    assert places == sorted(places)


def test_reference_rows_are_in_a_body_of_their_own(page):
    apart = re.findall(r'<tbody class="apart">(.*?)</tbody>', page, flags=re.DOTALL)
    assert apart
    assert all('class="reference"' in body and "Fed-CMP" not in body for body in apart)


def test_a_study_before_its_first_run_makes_a_page(tmp_path):
    folder = write_study(tmp_path, change=lambda content: None, extras=False)
    (folder / "references" / "blind.json").unlink()
    page = render_study_page(Results.of(load_study(folder)), title="new")
    assert "Nothing has been evaluated yet." in page
    assert [a["id"] for tag, a in Reader(page).tags if tag == "section"] == ["result"]


def test_one_run_alone_makes_a_page(tmp_path):
    write_json(tmp_path / "study.json", {})
    add_run(tmp_path, run_content("fedavg", "image", 1))
    page = render_study_page(Results.of(load_study(tmp_path)), title="one")
    assert "no other federated method has a figure" in page
    assert "One seed only" in page


def test_text_from_a_study_never_becomes_markup(tmp_path):
    def poison(content):
        content["final"]["worst_family"] = EVIL
        content["versions"] = {EVIL: EVIL}
        return content

    folder = write_study(
        tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=(1, 2), change=poison
    )
    plan = json.loads((folder / "study.json").read_text())
    plan["scenarios"]["image"]["title"] = EVIL
    plan["methods"]["fedavg"].update(title=EVIL, table=EVIL, arms={EVIL: EVIL})
    plan["methods"]["shared-basis"].update(table=EVIL, arms={EVIL: True})
    write_json(folder / "study.json", plan)
    scenario = json.loads((folder / "scenarios" / "image" / "seed-1.json").read_text())
    scenario["map"]["metric"] = EVIL
    scenario["heterogeneity"] = {EVIL: 0.5}
    write_json(folder / "scenarios" / "image" / "seed-1.json", scenario)
    write_json(folder / "tuning" / "fedavg.json", {"trials": [{"settings": {EVIL: EVIL}}], "chosen": {EVIL: EVIL}})
    reader = Reader(render_study_page(Results.of(load_study(folder)), title=EVIL))
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 1
    assert "b" not in tags
    assert not any("onclick" in attributes for _, attributes in reader.tags)
