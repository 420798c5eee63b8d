"""What a page does in a browser; left out where no Chromium is installed (axe-core: where AXE does not name it)."""

import json

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page
from fedcmp.report.scenario.page import render_scenario_page
from fedcmp.report.scenario.records import Shown
from fedcmp.report.study.page import render_study_page

from .browser import needs_axe, needs_browser, run_in_page, violations
from .fakes import write_run
from .scenario.fakes import PNG, four
from .study.conftest import results, study_folder  # noqa: F401 - fixtures

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten methods: more than there are colours."""
    folder = tmp_path_factory.mktemp("many")
    for method in (
        "fedavg",
        "shared-basis",
        "centralized",
        "local",
        "fedcmp",
        "ties",
        "dare",
        "fisher",
        "moon",
        "diloco",
    ):
        write_run(folder / method, method, rounds=3)
    return render_page(Comparison.of(load_runs(folder)), title="many")


@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (500, False)])
def test_axe_finds_nothing_wrong_with_a_run(many, tmp_path, width, dark):
    assert violations(many, tmp_path, width=width, dark=dark) == ""


@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (500, False)])
def test_axe_finds_nothing_wrong_with_a_study(results, tmp_path, width, dark):  # noqa: F811
    assert violations(render_study_page(results, title="study"), tmp_path, width=width, dark=dark) == ""


@needs_axe
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_wrong_with_scenarios(tmp_path, dark):
    shown = Shown.of(four())
    page = render_scenario_page(shown, {"one": PNG}, title="Scenarios")
    assert violations(page, tmp_path, width=1200, dark=dark) == ""


def test_sorting_puts_the_best_first_whichever_way_is_better(many, tmp_path):
    script = """
      const table = document.querySelector('#result table');
      const column = (text) => [...table.querySelectorAll('th[scope=col]')].find((th) => th.textContent.includes(text));
      const values = (th) => [...table.tBodies[0].rows].map((row) => row.cells[th.cellIndex].dataset.value)
        .filter((value) => value !== undefined).map(Number);
      const found = {};
      for (const name of ['Caption loss', 'Question accuracy']) {
        column(name).querySelector('button').click();
        found[name] = [column(name).getAttribute('aria-sort'), values(column(name))];
      }
      return JSON.stringify(found);
    """
    found = json.loads(run_in_page(many, script, tmp_path))
    order, losses = found["Caption loss"]
    assert (order, losses) == ("ascending", sorted(losses))
    order, accuracies = found["Question accuracy"]
    assert (order, accuracies) == ("descending", sorted(accuracies, reverse=True))


def test_a_hidden_method_is_gone_from_tables_and_charts(many, tmp_path):
    script = """
      const shown = (of) => [...document.querySelectorAll(`[data-of="${of}"]`)]
        .filter((e) => e.getClientRects().length);
      const seen = () => shown('ties').length, others = () => shown('fedavg');
      const button = document.querySelector('[data-method="ties"]');
      const before = [seen(), others().length];
      button.click();
      const hidden = [seen(), others().length, button.getAttribute('aria-pressed')];
      button.click();
      return JSON.stringify([before, hidden, [seen(), others().length, button.getAttribute('aria-pressed')]]);
    """
    before, hidden, after = json.loads(run_in_page(many, script, tmp_path))
    assert before[0] > 10
    assert hidden == [0, before[1], "false"]
    assert after == [*before, "true"]


def test_arrow_keys_and_touch_show_a_charts_values(many, tmp_path):
    script = """
      const chart = [...document.querySelectorAll('#result svg')].find((svg) => svg.getClientRects().length);
      const tip = document.querySelector('.tip');
      chart.focus();
      const said = [];
      for (const key of ['ArrowRight', 'ArrowRight', 'ArrowLeft', 'Escape']) {
        chart.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        said.push(tip.textContent);
      }
      chart.querySelector('[data-tip]').dispatchEvent(new PointerEvent('pointerdown', { bubbles: true }));
      said.push(tip.textContent);
      return JSON.stringify([said, document.querySelectorAll('svg title').length, chart.tabIndex]);
    """
    (first, second, back, gone, touched), titles, focus = json.loads(run_in_page(many, script, tmp_path))
    assert ": 0." in first
    assert first != second
    assert (back, gone, touched) == (first, "", first)
    assert (titles, focus) == (0, 0)


def test_print_opens_what_is_folded_and_closes_it_again(many, tmp_path):
    script = """
      const open = () => document.querySelectorAll('details[open]').length;
      const found = [open()];
      for (const event of ['beforeprint', 'afterprint']) { dispatchEvent(new Event(event)); found.push(open()); }
      return JSON.stringify([...found, document.querySelectorAll('details').length]);
    """
    before, printing, after, every = json.loads(run_in_page(many, script, tmp_path))
    assert (before, printing, after) == (0, every, 0)
    assert every > 3


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_sticks_out_of_the_page(many, tmp_path, width):
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"
    assert run_in_page(many, script, tmp_path, width=width) == "0"
