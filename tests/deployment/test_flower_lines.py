import pytest

from fedcmp.deployment.flower_lines import Terse
from fedcmp.deployment.supernode import NodeLine, read_node_line

GREEN, RED, END = "\x1b[92m", "\x1b[91m", "\x1b[0m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("round 3: fedavg, 3 of 3 sites, loss 2.31", "round 3: fedavg, 3 of 3 sites, loss 2.31"),
        (f"{GREEN}INFO {END}:      Starting Flower ServerApp", None),
        (f"{GREEN}INFO {END}:      ", None),
        (f"{RED}ERROR {END}:     something broke", "Flower: something broke"),
        ('2026-11-27T05:15:06.163Z INFO [uvicorn.access] 1:2 - "POST /v1/x HTTP/1.1" 200', None),
        ("Successfully installed a to b.", None),
        ("a\x07b", "a\\x07b"),
        ("   ", None),
    ],
)
def test_our_lines_pass_and_flowers_only_when_they_warn(line, shown):
    assert Terse()(line) == shown


def test_a_traceback_stays_in_the_log():
    terse = Terse()
    lines = [
        f"{RED}ERROR {END}:     ServerApp raised an exception",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "ValueError: no",
        f"{RED}ERROR {END}:     Exit Code: 201",
        "An unhandled exception occurred in the ServerApp.",
        f"{RED}ERROR {END}:     something else",
        "on we go",
    ]
    assert [terse(line) for line in lines] == [None] * 6 + ["Flower: something else", "on we go"]


def test_a_supernodes_lines_are_read():
    lines = [
        (f"{GREEN}INFO {END}:      SuperNode ID: 537040032", NodeLine("connected", "537040032")),
        (f"{GREEN}INFO {END}:      [RUN 11419625806327605251, ROUND 3]", None),
        (f"{GREEN}INFO {END}:      Received successfully", None),
        ("[code: 2004] Failed to activate SuperNode.", NodeLine("refused")),
        ("WARNING :   Connection attempt failed, retrying in 0.64 seconds", NodeLine("lost")),
        ("INFO :      Connection successful after 3.2 seconds and 4 tries.", NodeLine("back")),
    ]
    assert [read_node_line(line) for line, _ in lines] == [said for _, said in lines]
