from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

from fedcmp.report.canvas import MARKS, End, finish, frame, png, short
from fedcmp.report.palette import MARKERS


def drawn(title="losses"):
    canvas = Figure(figsize=(3, 2), layout="constrained")
    axes = canvas.add_subplot()
    axes.plot([1, 2, 3], [0.9, 0.8, 0.7])
    finish(canvas, axes, [End(0.7, "a 0.700", "#0072b2"), End(0.71, "b 0.710", "#d55e00")], title, (0.6, 0.85))
    return canvas, axes


def test_the_same_canvas_gives_the_same_bytes_without_a_date():
    first, second = png(drawn()[0]), png(drawn()[0])
    assert first == second
    assert Image.open(BytesIO(first)).info.keys() <= {"dpi"}


def test_names_at_the_ends_keep_apart_and_tell_what_runs_out():
    canvas, axes = drawn()
    places = sorted(text.xyann[1] for text in axes.texts)
    assert places[1] - places[0] > 0.02
    frame(axes, "x")
    finish(canvas, axes, [End(3.0, "c", "#009e73")], "x", (0.6, 0.85))
    assert axes.texts[-1].get_text() == "c ↑"
    assert axes.get_ylim() == (0.6, 0.85)


def test_titles_are_text_never_formulas(recwarn):
    png(drawn("$\\frac$ 病院")[0])
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_every_marker_of_the_page_has_one_in_print():
    assert set(MARKS) == set(MARKERS)
    assert len(set(MARKS.values())) == len(MARKERS)
    assert short("a" * 30) == "a" * 23 + "…"
