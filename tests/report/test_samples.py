import base64
import json
import re
from xml.etree import ElementTree

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page
from fedcmp.report.samples import MOST_SAMPLES, inline_image, mark_shared, sample_cards

from .fakes import CAPTIONS, write_lines


def cards_of(folder):
    """The cards as the page shows them."""
    page = render_page(Comparison.of(load_runs(folder)), title="x")
    found = re.findall(r'<article class="sample">.*?</article>', page, flags=re.DOTALL)
    return [ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", card)) for card in found]


def test_shared_words_are_marked_as_often_as_the_reference_has_them():
    pieces, shared, words = mark_shared("A red, red <b> Square!", "a square red thing")
    assert [(piece.text, piece.strong) for piece in pieces] == [
        *(("A", True), (" ", False), ("red", True)),
        *((", red <b> ", False), ("Square", True), ("!", False)),
    ]
    assert (shared, words) == (3, 5)


def test_an_empty_caption_has_no_words():
    assert mark_shared("", "a b") == ([], 0, 0)


def test_a_card_a_picture_with_every_methods_caption(demo):
    cards = cards_of(demo)
    assert len(cards) == len(CAPTIONS)
    first = cards[0]
    assert first.find("img").get("src").startswith("data:image/png;base64,")
    assert first.find("img").get("alt") == CAPTIONS[0]
    who = [span.find("span").tail for span in first.iter("span") if span.get("class") == "who" and len(span)]
    assert who == ["shared-basis", "fedavg", "centralized", *(f"local · client-{k}" for k in range(5))]
    assert len(first.find(".//details").findall("p")) == 3
    marked = [mark.text for mark in first.iter("mark")]
    assert marked
    assert set(marked) <= set(CAPTIONS[0].split())


def test_clients_own_models_have_the_organisations_names(tmp_path):
    names = ("north", "south")
    write_lines(
        tmp_path / "local",
        [{"kind": "data", "client": number, "client_name": name, "num_pairs": 9} for number, name in enumerate(names)],
    )
    said = [{"key": "a", "reference": "a cat", "captions": {"client-0": "a dog", "client-1": "a cat"}}]
    (tmp_path / "local" / "samples.json").write_text(json.dumps(said))
    text = "".join("".join(card.itertext()) for card in cards_of(tmp_path))
    assert "local · north" in text
    assert "local · south" in text
    assert "client-" not in text


def test_pictures_of_several_runs_are_matched_by_key(tmp_path):
    for method, order in (("fedavg", "ab"), ("shared-basis", "ba")):
        write_lines(tmp_path / method, [])
        entries = [
            {"key": key, "reference": f"picture {key}", "captions": {method: f"{method} {key}"}} for key in order
        ]
        (tmp_path / method / "samples.json").write_text(json.dumps(entries))
    for card, key in zip(cards_of(tmp_path), "ab", strict=True):
        text = "".join(card.itertext())
        assert f"picture {key}" in text
        assert f"fedavg {key}" in text
        assert f"shared-basis {key}" in text


def test_untrusted_captions_stay_text(tmp_path):
    evil = '<img src=x onerror="alert(1)">'
    write_lines(tmp_path, [])
    entry = {"key": "a", "reference": evil, "group": evil, "captions": {evil: evil, "b": ""}}
    (tmp_path / "samples.json").write_text(json.dumps([entry]))
    (card,) = cards_of(tmp_path)
    assert card.find(".//img") is None
    assert "".join(card.itertext()).count(evil) >= 2


def test_only_pictures_from_inside_the_runs_folder_are_inlined(tmp_path, demo):
    run = tmp_path / "run"
    run.mkdir()
    picture = (demo / "fedavg" / "samples" / "0.png").read_bytes()
    (tmp_path / "outside.png").write_bytes(picture)
    (run / "inside.png").write_bytes(picture)
    (run / "text.png").write_text("no picture")
    assert inline_image(run, "inside.png") == "data:image/png;base64," + base64.b64encode(picture).decode()
    for name in ("../outside.png", str(tmp_path / "outside.png"), "text.png", "absent.png", "a\0b", "."):
        assert inline_image(run, name) is None


def test_a_link_that_leads_outside_is_not_followed(tmp_path, demo):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link.png").symlink_to(demo / "fedavg" / "samples" / "0.png")
    assert inline_image(tmp_path / "run", "link.png") is None


@pytest.mark.parametrize("count", [0, MOST_SAMPLES + 5])
def test_the_page_holds_a_bounded_number_of_pictures(tmp_path, count):
    write_lines(tmp_path, [])
    entries = [{"key": index, "reference": "x", "captions": {"fedavg": "x"}} for index in range(count)]
    (tmp_path / "samples.json").write_text(json.dumps(entries))
    assert len(cards_of(tmp_path)) == len(sample_cards(Comparison.of(load_runs(tmp_path)))) == min(count, MOST_SAMPLES)
