import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page

from .fakes import write_run

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags close in order; gathers attributes by tag, and the script's text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))


@pytest.fixture(scope="module")
def reader(demo_page):
    return Reader(demo_page)


def test_the_page_asks_for_nothing_from_outside(reader, demo_page):
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", demo_page)


def test_the_policy_allows_this_script_alone(reader):
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = "".join(text for tag, text in reader.texts if tag == "script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_page_is_usable_without_sight_or_mouse(reader):
    assert ("html", {"lang": "en"}) in reader.tags
    assert [tag for tag, _ in reader.tags].count("h1") == 1
    drawings = [attributes for tag, attributes in reader.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert drawings
    assert all(attributes.get("aria-label") for attributes in drawings)
    assert all(attributes.get("alt") for tag, attributes in reader.tags if tag == "img")
    assert all(attributes.get("type") == "button" for tag, attributes in reader.tags if tag == "button")


def test_ids_are_unique_and_links_lead_somewhere(reader):
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"}
    assert targets <= set(ids)
    clips = {attributes["clip-path"][5:-1] for _, attributes in reader.tags if "clip-path" in attributes}
    assert clips <= set(ids)


def test_every_colour_variable_is_defined(demo_page):
    used = set(re.findall(r"var\((--[a-z0-9]+)", demo_page))
    defined = set(re.findall(r"(--[a-z0-9]+):", demo_page))
    assert used <= defined


def test_the_sections_that_a_comparison_brings(reader):
    sections = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    assert sections == [
        "result",
        "curves",
        "clients",
        "weights",
        "questions",
        "groups",
        "samples",
        "data",
        "diagnostics",
        "recipe",
    ]


def test_the_first_screen_holds_verdict_facts_chart_and_table_in_this_order(demo_page):
    places = [
        demo_page.index(text) for text in ("Toy world", " wins", "19\u202f200", "<figure>", "<table>", "Where to")
    ]
    assert places == sorted(places)


def test_the_page_cites_the_paper(demo_page):
    assert "arXiv 2603.26786" in demo_page
    assert "its authors'" in demo_page


def test_what_was_not_measured_has_no_section(tmp_path):
    def bare(line):
        if line["kind"] in ("data", "client"):
            return None
        return {**line, "question_accuracy": None, "question_accuracy_by_kind": None, "diagnostics": {}}

    write_run(tmp_path / "fedavg", "fedavg", rounds=2, change=bare, samples=False)
    page = Reader(render_page(Comparison.of(load_runs(tmp_path)), title="own"))
    assert [a["id"] for tag, a in page.tags if tag == "section"] == ["result", "curves", "groups", "recipe"]


def test_text_from_a_run_never_becomes_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b onclick='x'>\"$title"

    def poison(line):
        edited = {**line, "worst_group": evil}
        if "client_name" in line:
            edited["client_name"] = evil
        for key in ("group_losses", "question_accuracy_by_kind", "groups", "bad_pairs", "diagnostics"):
            if line.get(key):
                edited[key] = {**line[key], evil: 1}
        return edited

    folder = write_run(tmp_path / "run", "fedavg", rounds=2, change=poison, extra=f"evil = '''{evil}'''\n")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        recipe.read_text().replace('"fedavg"', f"'''{evil}'''").replace('torch = "2.13.0"', f"torch = '''{evil}'''")
    )
    page = render_page(Comparison.of(load_runs(folder)), title=evil)
    reader = Reader(page)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert not any("onclick" in attributes for _, attributes in reader.tags)
    assert "b" not in {tag for tag, _ in reader.tags}


def test_many_methods_fold_their_small_charts(tmp_path):
    for method in ("a", "b", "c", "d", "e", "f"):
        write_run(tmp_path / method, method, rounds=1, samples=False)
    page = render_page(Comparison.of(load_runs(tmp_path)), title="many")
    assert len(re.findall(r"<summary>2 more charts: [a-f], [a-f]</summary>", page)) == 4


def test_an_empty_run_makes_a_page(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    page = render_page(Comparison.of(load_runs(tmp_path)), title="new")
    assert "Nothing has been evaluated yet." in page
    assert "has not finished: round 0." in page
