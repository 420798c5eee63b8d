"""The section about sites: shown where there is something to tell, and what it tells."""

import json

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page
from fedcmp.report.remarks import pointers
from fedcmp.report.sites import sites_pointer, sites_section, sites_table
from fedcmp.report.writing import render_markdown

from .fakes import PROJECTOR_BYTES, text_rows, write_run

# (round, client) -> what became of its part
FATES = {(2, 1): "late", (3, 1): "missing", (3, 0): "lost", (4, 2): "refused", (2, 0): "again"}
EVIL = '<b>&"x'


def events_of(number, client, fate):
    def event(what, seconds, detail=""):
        line = {"kind": "site", "round": number, "client": client, "client_name": f"client-{client}", "event": what}
        return line | {"detail": detail, "seconds": seconds}

    told = {
        "late": [event("late", 130.0, EVIL)],
        "missing": [event("missing", 100.0)],
        "lost": [event("lost", 61.0, "no answer")],
        "refused": [event("refused", 40.0, "holds 12 NaN")],
        "again": [event("lost", 20.0), event("rejoined", 30.0), event("asked again", 31.0)],
    }
    return [event("asked", 0.0), *told.get(fate, [])]


def federated(folder, method="fedavg", *, rounds=4, clients=3, events=True, fates=FATES):
    """A run of a deployment whose sites had these fates; without events as a simulation with a deadline has it."""

    def change(line):
        fate = fates.get((line.get("round"), line.get("client")))
        if line["kind"] == "client":
            if fate in ("late", "missing", "lost"):
                return None
            why = {"refused": "holds 12 NaN"} if fate == "refused" else {}
            return line | {"arrived": 10.0 * (line["client"] + 1) + line["round"]} | why
        if line["kind"] == "round":
            gone = [c for (n, c), f in fates.items() if n == line["round"] and f in ("late", "missing", "lost")]
            return line | {"missing": [f"client-{client}" for client in sorted(gone)]}
        return line

    write_run(folder, method, rounds=rounds, clients=clients, change=change, samples=False)
    if events:
        happened = [
            event
            for number in range(1, rounds + 1)
            for client in range(clients)
            for event in events_of(number, client, fates.get((number, client)))
        ]
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("".join(json.dumps(event) + "\n" for event in happened))
    return folder


def comparison(*folders):
    return Comparison.of([run for folder in folders for run in load_runs(folder)])


def column(table, start):
    at = next(index for index, one in enumerate(table.columns) if one.title.startswith(start))
    return [row.cells[at].plain for row in table.rows]


def test_every_mark_says_what_became_of_a_sites_part(tmp_path):
    section = sites_section(comparison(federated(tmp_path / "a")))
    (panel,) = section["panels"]
    marks = {(row, number): (panel.chart.kinds[kind].text, tip) for row, number, kind, tip in panel.chart.marks}
    assert len(marks) == 12
    told = {place: kind for place, (kind, _) in marks.items() if kind != "in time"}
    assert told == {
        (1, 2): "late",
        (1, 3): "no reply",
        (0, 3): "no reply",
        (2, 4): "refused",
        (0, 2): "in time, after a fault",
    }
    assert marks[0, 1][1] == "client-0, round 1: in time, after 11.0 s"
    assert marks[1, 2][1] == f"client-1, round 2: late; late {EVIL}"
    assert marks[0, 3][1] == "client-0, round 3: no reply; lost no answer"
    assert marks[2, 4][1] == "client-2, round 4: refused, after 34.0 s; holds 12 NaN; refused holds 12 NaN"
    assert [text for _, _, text in panel.legend] == [
        "in time",
        "in time, after a fault",
        "late",
        "refused",
        "no reply",
    ]


def test_the_table_counts_rounds_faults_times_and_bytes(tmp_path):
    table = sites_table(comparison(federated(tmp_path / "a")))
    assert [column.title for column in table.columns] == [
        *("Site", "In time", "Late", "Refused", "No reply", "Link lost", "Came back"),
        *("Reply", "Slowest", "Sent", "Received"),
    ]
    assert text_rows(table) == [
        ["client-0", "3 of 4", "–", "–", "1", "2", "1", "12.0", "14.0", "0.40", "0.40"],
        ["client-1", "2 of 4", "1", "–", "1", "–", "–", "22.5", "24.0", "0.27", "0.27"],
        ["client-2", "3 of 4", "–", "1", "–", "–", "–", "32.5", "34.0", "0.53", "0.53"],
    ]


def test_methods_of_one_federation_are_told_apart_and_references_are_none_of_it(tmp_path):
    folders = [federated(tmp_path / name, name) for name in ("fedavg", "moon")]
    folders.append(federated(tmp_path / "local", "local"))
    section = sites_section(comparison(*folders))
    assert [panel.title for panel in section["panels"]] == ["fedavg", "moon"]
    assert column(section["table"], "Method") == ["fedavg"] * 3 + ["moon"] * 3
    told = [(panel.title, panel.subtitle.partition(",")[0]) for panel in section["charts"]]
    assert told == [(name, what) for what in ("Reply", "Sent and received so far") for name in ("fedavg", "moon")]


def test_bytes_add_up_over_the_rounds_that_a_site_was_in(tmp_path):
    *_, panel = sites_section(comparison(federated(tmp_path / "a")))["charts"]
    points = {line.label: line.points for line in panel.chart.lines}
    one = 2 * PROJECTOR_BYTES / 1e6
    assert points["client-1"] == (pytest.approx((1.0, one)), pytest.approx((4.0, 2 * one)))
    assert [value for _, value in points["client-2"]] == pytest.approx([one, 2 * one, 3 * one, 4 * one])


def test_a_simulation_with_a_deadline_has_the_section_and_one_without_missing_clients_has_not(tmp_path, demo_page):
    section = sites_section(comparison(federated(tmp_path / "a", events=False)))
    kinds = {kind for panel in section["panels"] for _, _, kind, _ in panel.chart.marks}
    assert kinds == {0, 3, 4}
    assert section["events"] is None
    whole = federated(tmp_path / "b", events=False, fates={})
    assert sites_section(comparison(whole)) == {}
    assert sites_table(comparison(whole)) is None
    assert sites_pointer(comparison(whole)) is None
    assert 'id="sites"' not in demo_page


def test_events_are_listed_but_for_what_is_asked_in_every_round(tmp_path):
    table = sites_section(comparison(federated(tmp_path / "a")))["events"]
    assert table.caption == "What happened, event by event (7)"
    assert column(table, "What happened") == ["lost", "rejoined", "asked again", "late", "lost", "missing", "refused"]
    assert text_rows(table)[3] == ["2", "client-1", "late", "130.0", EVIL]
    many = {(number, 0): "late" for number in range(1, 301)}
    table = sites_section(comparison(federated(tmp_path / "b", rounds=300, clients=2, fates=many)))["events"]
    assert len(table.rows) == 200
    assert table.notes == ("The last 200; 100 before them are in metrics.jsonl.",)


def test_one_that_is_no_client_is_among_the_events_only(tmp_path):
    folder = federated(tmp_path / "a", fates={})
    line = {"kind": "site", "round": 2, "client": None, "client_name": "", "event": "refused", "detail": "no key"}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line | {"seconds": 3.0}) + "\n")
    section = sites_section(comparison(folder))
    assert [row.cells[0].plain for row in section["table"].rows] == ["client-0", "client-1", "client-2"]
    assert text_rows(section["events"]) == [["2", "unknown", "refused", "3.0", "no key"]]


def test_of_many_sites_those_with_faults_are_drawn(tmp_path):
    fates = {(number, client): "late" for client in range(35, 45) for number in (1, 2)}
    section = sites_section(comparison(federated(tmp_path / "a", rounds=2, clients=45, fates=fates)))
    (panel,) = section["panels"]
    assert len(panel.chart.rows) == 30
    assert {f"client-{client}" for client in range(35, 45)} <= set(panel.chart.rows)
    assert panel.note == "The 30 of 45 sites with most faults."
    assert len(section["table"].rows) == 45


def test_the_first_screen_names_who_missed_most(tmp_path):
    told = pointers(comparison(federated(tmp_path / "a")))
    assert ("“client-1” missed 2 of its 4 rounds of fedavg.", "sites") in [(one.text, one.section) for one in told]


@pytest.mark.parametrize("events", [True, False])
def test_page_and_tables_hold_the_section_and_escape_it(tmp_path, events):
    folder = federated(tmp_path / "a", events=events)
    page = render_page(comparison(folder), title="a")
    section = page.partition('<section id="sites">')[2].partition("</section>")[0]
    assert section.count("<svg") == 2 + 1 + 1  # participation wide and narrow, replies, bytes
    assert ("event by event (7)" in section) == events
    assert EVIL not in section
    assert "Sites over all rounds" in render_markdown(load_runs(folder))
