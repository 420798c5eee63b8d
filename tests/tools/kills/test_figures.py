"""What `make kills` does to a file, how it judges a command's end, and the tables that it writes."""

import random
import signal
from collections import Counter

import pytest

from tools.kills.__main__ import all_are_the_same, killed_lines, swept_lines
from tools.kills.damage import DIFFERENT, FAILED, REFUSED, SAME, Swept, _end, damages
from tools.kills.killing import Kill, Killed


def test_a_file_is_removed_emptied_cut_and_has_single_bits_flipped(tmp_path):
    path, content = tmp_path / "file", bytes(range(100))
    path.write_bytes(content)
    found = {}
    for what, damage in list(damages(path, random.Random(1), 3)):
        path.write_bytes(content)
        damage(path)
        found[what] = path.read_bytes() if path.exists() else None
    assert list(found)[:3] == ["removed", "emptied", "cut in half"]
    removed, emptied, cut, *flipped = found.values()
    assert (removed, emptied, cut) == (None, b"", content[:50])
    assert len(flipped) == 3
    for one in flipped:
        assert sum((a ^ b).bit_count() for a, b in zip(one, content, strict=True)) == 1


@pytest.mark.parametrize(
    ("code", "said", "same", "end"),
    [
        (0, "runs/x: a remark", True, SAME),
        (0, "", False, DIFFERENT),
        (2, "memory: 2 GB\nfedcmp: file: damaged", False, REFUSED),
        (2, "fedcmp: one\nfedcmp: two", False, FAILED),
        (2, "Traceback\nfedcmp: one", False, FAILED),
        (1, "fedcmp: a worker ended", False, FAILED),
    ],
)
def test_a_command_ends_in_one_line_or_with_the_same_result(code, said, same, end):
    assert _end(code, said, same) == end


def test_the_tables_count_kills_and_ends():
    kill = Kill(signal.SIGKILL, "in training", 3, 0.24, False)
    term = Kill(signal.SIGTERM, "in preparation", 0, 0.0, False)
    runs = [Killed([kill, term], []), Killed([kill], ["fedavg: records"])]
    lines = killed_lines(runs, workers=2)
    assert "| SIGKILL | 2 | 0 | 2 | 6 | 0.2 | 0 |" in lines
    assert "| SIGTERM | 1 | 1 | 0 | 0 | 0.0 | 0 |" in lines
    assert "Equal to the undisturbed run, to the bit: 1 of 2 runs." in lines
    assert all_are_the_same(runs[:1])
    assert not all_are_the_same(runs)
    assert not all_are_the_same([Killed([Kill(signal.SIGTERM, "in training", 0, 0.0, True)], [])])
    swept = {"finished": [Swept("report", Counter({REFUSED: 4, SAME: 6}))]}
    assert "| `report` | 10 | 4 | 6 | 0 | 0 |" in swept_lines(swept, flips=1)
