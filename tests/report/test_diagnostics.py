import re
from xml.etree import ElementTree

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.diagnostics import diagnostics as gather
from fedcmp.report.page import render_page

from .fakes import write_run

LAYERS = ("mlp.linear_1.weight", "mlp.linear_2.weight")


def section(folder, diagnostics, *, rounds=4, methods=("shared-basis",)):
    """The section of runs whose rounds tell what `diagnostics(round)` returns."""

    def change(line):
        return line | {"diagnostics": diagnostics(line["round"])} if line["kind"] == "round" else line

    for method in methods:
        write_run(folder / method, method, rounds=rounds, change=change, samples=False)
    page = render_page(Comparison.of(load_runs(folder)), title="x")
    body = page.partition('<section id="diagnostics">')[2].partition("</section>")[0]
    return ElementTree.fromstring(f"<section>{body}</section>")


def all_quantities(round_):
    told = {}
    for number, layer in enumerate(LAYERS):
        told |= {f"rank.{layer}": 128.0 - 64 * number, f"step_ratio.{layer}": 1.0 + number + round_}
        if round_ > 1:
            told |= {f"divergence.{layer}": 0.1 / round_ + number, f"beta.{layer}": 0.5 + 0.1 / round_}
    return told


def captions(root):
    return ["".join(caption.itertext()) for caption in root.iter("figcaption")]


def lines_of(root):
    return [path for group in root.iter("g") if group.get("class") == "line" for path in group.iter("path")]


def notes(root):
    return ["".join(note.itertext()) for note in root.iter("p")]


def test_a_quantity_has_its_own_plot_with_word_symbol_and_unit(tmp_path):
    root = section(tmp_path, all_quantities)
    assert captions(root) == ["Drift dt no unit", "Momentum bt no unit", "Step ratio no unit"]
    axes = [
        tuple(text.text for text in figure.iter("text") if "text-anchor:end" in text.get("style"))
        for figure in root.iter("figure")
    ]
    assert len(set(axes)) == 3


def test_layers_have_their_full_names_and_one_colour_in_every_plot(tmp_path):
    root = section(tmp_path, all_quantities, methods=("shared-basis", "other"))
    figures = list(root.iter("figure"))
    assert len(figures) == 6
    for figure in figures:
        assert ["".join(entry.itertext()).split(" ", 1)[1] for entry in figure.iter("li")] == list(LAYERS)
        lines = [path.get("style") for path in lines_of(figure)]
        assert [re.search("stroke:([^;]*)", line)[1] for line in lines] == ["var(--c0)", "var(--c1)"]
    assert "…" not in "".join(root.itertext())


def test_what_never_changed_is_told_in_a_sentence(tmp_path):
    root = section(tmp_path / "a", all_quantities)
    told = f"The same in every round: rank 128 directions in {LAYERS[0]}, 64 directions in {LAYERS[1]}."
    assert notes(root)[1:] == [told]
    root = section(tmp_path / "b", lambda _: {f"beta.{layer}": 0.5 for layer in LAYERS})
    assert captions(root) == []
    assert notes(root)[1:] == ["The same in every round: momentum bt 0.5 in every layer."]


def test_of_one_round_everything_is_told_in_a_sentence(tmp_path):
    root = section(tmp_path, lambda _: {"rank.a<b": 3.0}, rounds=1)
    assert notes(root)[1:] == ["In round 1: rank 3 directions in a<b."]


def test_only_the_quantities_that_are_there_are_explained(tmp_path):
    explained = notes(section(tmp_path, all_quantities))[0]
    assert re.findall(r"\. ([A-Z][a-z ]+)", explained) == ["Drift dt", "Momentum bt", "Rank", "Step ratio"]


def test_another_rules_numbers_keep_their_own_words(tmp_path):
    root = section(tmp_path, lambda round_: {"conflict_share": 0.1 * round_})
    assert captions(root) == ["Conflict share"]
    assert ["".join(entry.itertext()) for entry in root.iter("li")] == ["● whole projector"]


def test_beyond_two_methods_the_rest_is_folded_and_says_what_it_holds(tmp_path):
    root = section(tmp_path, all_quantities, methods=("a", "b", "c"))
    assert len(root.findall("div/figure")) == 6
    (folded,) = root.findall("details")
    assert re.fullmatch("Numbers of [abc]: drift, momentum, rank, step ratio", folded.find("summary").text)
    assert len(folded.findall("div/figure")) == 3


def test_a_method_whose_numbers_are_told_in_words_is_never_folded(tmp_path):
    root = section(tmp_path, lambda _: {"rank.a": 3.0}, methods=("a", "b", "c"))
    assert root.find("details") is None
    assert notes(root)[1:] == ["The same in every round: rank 3 directions in a."] * 3


def test_too_many_layers_to_tell_apart_are_not_drawn(tmp_path):
    root = section(tmp_path, lambda round_: {f"rank.{n}": float(n + round_) for n in range(25)})
    assert captions(root) == []
    assert notes(root)[1:] == ["Rank: 25 layers are too many to tell apart here; metrics.jsonl has all."]


def test_without_numbers_there_is_no_section(tmp_path):
    write_run(tmp_path, "fedavg", rounds=2, samples=False)
    assert gather(Comparison.of(load_runs(tmp_path))) is None


def test_early_rounds_are_in_the_picture_however_far_the_numbers_fall(tmp_path):
    def falling(round_):
        return {f"divergence.{LAYERS[0]}": 10.0**-round_, f"divergence.{LAYERS[1]}": 0.0}

    root = section(tmp_path, falling, rounds=8)
    drawn = [line.get("d") for line in lines_of(root)]
    assert len(drawn) == len(LAYERS)
    assert all(float(height) >= 0 for path in drawn for height in re.findall(r"[\d.]+[ ,](-?[\d.]+)", path))
