import logging

import pytest

from fedcmp.errors import UserError
from fedcmp.terminal import log_to_stderr, shortened, shown, shown_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/démo 写真 🙂", "runs/démo 写真 🙂"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("a\x9b31m", "a\\x9b31m"),
        ("one\nfedcmp: two\r", "one\\nfedcmp: two\\r"),
        ("tab\there", "tab\\there"),
        ("cod\u202egnp.exe", "cod\\u202egnp.exe"),
        ("\u2066x\u2069 \u200f", "\\u2066x\\u2069 \\u200f"),
        ("line\u2028break\u0085", "line\\u2028break\\x85"),
        ("half \ud83d", "half \\ud83d"),
        ("bytes \udcff", "bytes \\udcff"),
        ("\ufeffmark \u200bnothing \U000e0041", "\\ufeffmark \\u200bnothing \\U000e0041"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩"),
        ("no\u00a0break", "no\u00a0break"),
    ],
)
def test_words_of_others_are_shown_and_never_obeyed(text, expected):
    assert shown(text) == expected
    assert shown(expected) == expected
    expected.encode()  # can be printed anywhere


def test_lines_stay_lines():
    assert shown_lines("a\nb\x1b[2J\n\r") == "a\nb\\x1b[2J\n\\r"


def test_an_error_is_one_line_whatever_is_in_it():
    assert str(UserError("a\nb\x1b[31m.png: no such file")) == "a\\nb\\x1b[31m.png: no such file"


def test_of_a_very_long_line_both_ends_stay():
    told = str(UserError(f"a.toml: {'é' * 9000}: must be shorter"))
    assert len(told) <= 2000
    assert told.startswith("a.toml: é")
    assert " ... " in told
    assert told.endswith("é: must be shorter")
    assert shortened(told) == told
    assert shortened("x" * 2000) == "x" * 2000


def test_the_log_is_safe_too(capsys, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    log_to_stderr()
    logging.getLogger("fedcmp.data").warning("%s: skipped %s", "pairs.json", "x\x1b]0;owned\x07\n2")
    assert capsys.readouterr().err == "pairs.json: skipped x\\x1b]0;owned\\x07\\n2\n"
