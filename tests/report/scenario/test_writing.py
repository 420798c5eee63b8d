import json
import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image

from fedcmp.errors import UserError
from fedcmp.report.scenario import write_scenario_report
from fedcmp.report.scenario.files import PNG_NAMES, scenario_pngs
from fedcmp.report.scenario.records import Shown
from fedcmp.report.scenario.writing import render_scenario_markdown

from .fakes import METRICS, PNG, facts, scenario


def test_all_files_are_written_and_an_old_figure_is_removed(tmp_path):
    content = facts(scenario("a"), scenario("b", metric="text"))
    written = write_scenario_report(content, {"one": PNG}, tmp_path / "deep" / "report")
    names = [path.name for path in written]
    assert names == ["index.html", "tables.md", "numbers.json", *PNG_NAMES]
    assert json.loads(written[2].read_text()) == content
    assert "<title>Scenarios a, b · fedcmp report</title>" in written[0].read_text()
    bare = facts(scenario(silhouette=dict.fromkeys(METRICS)), maps=False)
    again = write_scenario_report(bare, {}, tmp_path / "deep" / "report")
    left = {path.name for path in (tmp_path / "deep" / "report").iterdir()}
    assert {path.name for path in again} == left == {"index.html", "tables.md", "numbers.json", "sizes.png"}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the report cannot be written .*; give another --out"):
        write_scenario_report(facts(maps=False), {}, tmp_path / "file")


def test_the_markdown_holds_the_answer_and_every_table():
    text = render_scenario_markdown(Shown.of(facts(scenario("a|b"), missing="gone")), title="T")
    assert text.startswith("# T\n\n*Toy models: frozen models of 4 MB.*\n\n**a\\|b is sharpest in its own metric**: ")
    assert "> No images and no words: gone" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Pairs by client",
        "## Silhouette by scenario and metric",
        "## How unlike the clients are",
        "## Each client's numbers",
        "## How the scenarios were cut",
        "## Citation",
    ]


def test_figures_show_something_and_odd_names_do_no_harm():
    for content in scenario_pngs(Shown.of(facts(scenario("$\\frac$ 病院", clients=10)))).values():
        image = Image.open(BytesIO(content)).convert("RGB")
        assert image.width >= 480
        assert len(image.getcolors(maxcolors=1 << 24)) > 20


def test_writing_a_report_starts_none_of_the_machinery():
    code = (
        "import sys, fedcmp.report.scenario; "
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('fedcmp.')}; "
        "heavy = {'aggregation', 'client', 'config', 'data', 'federation', 'model', 'preparation', 'simulation'}; "
        "assert not rooms & heavy, rooms; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
