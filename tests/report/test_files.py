from io import BytesIO

from PIL import Image

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.files import PNG_NAMES, png_files

from .fakes import write_run


def test_a_picture_a_metric_and_the_weights_the_same_twice(demo_comparison):
    first, second = png_files(demo_comparison), png_files(demo_comparison)
    assert list(first) == list(PNG_NAMES)
    assert first == second
    for content in first.values():
        image = Image.open(BytesIO(content))
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 20


def test_what_was_not_measured_is_not_drawn(tmp_path):
    def bare(line):
        return {**line, "question_accuracy": None, "weight": None}

    write_run(tmp_path / "run", "fedavg", rounds=2, change=bare, samples=False)
    assert list(png_files(Comparison.of(load_runs(tmp_path)))) == ["caption_loss.png", "worst_group_loss.png"]


def test_names_that_look_like_formulas_or_lack_a_glyph_are_drawn_as_text(tmp_path, recwarn):
    def rename(line):
        return {**line, "client_name": "$\\frac$ 病院"} if "client_name" in line else line

    write_run(tmp_path / "run", "fedavg", rounds=2, change=rename, samples=False)
    assert "client_weights.png" in png_files(Comparison.of(load_runs(tmp_path)))
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
