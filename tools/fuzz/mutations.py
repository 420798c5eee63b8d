"""What is done to a valid input: to its bytes, and to the values in it. Everything follows from the draw given."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

Tree = Any  # what JSON or TOML hold: dicts, lists, texts, numbers


class Raw:
    """A value that is written as it stands, where no library would write it.

    Args:
        text: what stands in the file.
    """

    def __init__(self, text: str) -> None:
        self.text = text


_DEEP = 20_000
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, -(2**63) - 1, 2**64, 2**70),
    *(float("nan"), float("inf"), float("-inf"), 10**25, [], {}, [[]], {"": {}}, [None], ["a", 1, None]),
    *("", " ", "\0", "a\0b", "\n", "a\nb", "\x1b[31mred\x1b[0m", "\u202eleft", "\u200b", "\ud800", "\udc80\ud83d"),
    *(
        "<image>",
        "</s>",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "~",
        ".",
        "C:\\a",
    ),
    *("nan", "1e999", "true", "{0..999999999}", "*", "[", "{", "%s%n", "x" * 300, "é" * 5000, "https://a/b.png"),
    *({"path": "a.png", "bytes": None}, [{"from": "gpt", "value": 3}], [{"role": "assistant", "content": [{}]}]),
    *(Raw("9" * 5000), Raw("1e400"), Raw("-" + "9" * 400), Raw("[" * _DEEP), Raw("[" * 900 + "]" * 900)),
    *(Raw('{"a":' * 900 + "1" + "}" * 900), Raw("NaN"), Raw("-Infinity"), Raw('"\\ud83d"'), Raw('"\\u0000"'), Raw("")),
)
_BYTES = (b"\0", b"\xff", b"\n", b"\r\n", b"\x1b[2J", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff\xfe", b"[" * 3000)
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_WIDTHS = (2, 4, 8)


def damaged_bytes(draw: random.Random, data: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """Return bytes with one to four of these done to them: bits flipped, cut, spliced, overwritten, repeated.

    Args:
        draw: of what and where.
        data: a valid input.
        others: further valid inputs, pieces of which are put in.
    """
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        _damage(draw, out, others or (data,))
    return bytes(out)


def _damage(draw: random.Random, out: bytearray, others: tuple[bytes, ...]) -> None:
    # headers stand at the beginning, where most of a format's claims are
    at = draw.randrange(len(out) + 1) if draw.random() < 0.6 else draw.randrange(min(len(out), 64) + 1)
    size = draw.choice((1, 2, 4, 16, 64, 512))
    match draw.randrange(8):
        case 0:
            for _ in range(draw.choice((1, 1, 2, 8)) if out else 0):
                out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
        case 1:
            out[at : at + 1] = bytes([draw.choice((*_EDGES, draw.randrange(256)))])
        case 2:
            del out[at:]
        case 3:
            del out[at : at + size]
        case 4:
            out[at:at] = out[at : at + size] * draw.choice((1, 2, 20))
        case 5:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            out[at : at + draw.choice((0, size))] = other[start : start + size]
        case 6:
            width = draw.choice(_WIDTHS)
            number = draw.choice((0, 1, 2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1)) % 2 ** (8 * width)
            out[at : at + width] = number.to_bytes(width, draw.choice(("little", "big")))
        case _:
            out[at:at] = draw.choice(_BYTES)


def damaged_tree(draw: random.Random, tree: Tree, names: tuple[str, ...] = ()) -> Tree:
    """Return a copy of nested values with one to three of them replaced, moved, renamed, wrapped or removed.

    Args:
        draw: of what and where.
        tree: valid values.
        names: of keys that a reader knows, for new and renamed ones.
    """
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return tree
        shallow = [place for place in places if place[2] < 2]
        holder, key, _ = draw.choice(shallow if draw.random() < 0.3 else places)
        value = holder[key]
        match draw.randrange(8):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(draw.choice(HOSTILE))
            case 3:
                from_holder, from_key, _ = draw.choice(places)
                holder[key] = copy.deepcopy(from_holder[from_key])
            case 4:
                del holder[key]
            case 5:
                holder[key] = draw.choice(([value], [value, value], {"": value}, {"path": value}, {str(key): value}))
            case 6 if isinstance(holder, dict):
                holder[draw.choice((*names, "", "\0", "\ud800", "a b", "_", "Key", "x" * 300))] = holder.pop(key)
            case _ if isinstance(value, str):
                holder[key] = _damaged_text(draw, value)
            case _ if isinstance(value, int | float) and not isinstance(value, bool):
                holder[key] = draw.choice((-value, value * 1000, value / 7, str(value), value + 0.5))
            case _:
                holder[key] = copy.deepcopy(draw.choice(HOSTILE))
    return tree


def _damaged_text(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(("\0", "\n", "\x1b[1m", "\ud800", "/", "..", ".", " ", "\u202e", "#2")) + text[at:]


def _places(tree: Tree, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    """Every place in nested values: what holds it, its key there, and how deep it is."""
    entries: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    for key in entries:
        yield tree, key, depth
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key], depth + 1)


def json_text(value: Tree, draw: random.Random) -> str:
    """Write values as JSON, now and then with a key twice; what no library would write stands as it is."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        entries = [f"{json.dumps(str(key))}: {json_text(inner, draw)}" for key, inner in value.items()]
        if entries and draw.random() < 0.02:
            entries.append(draw.choice(entries).partition(": ")[0] + ": " + json_text(draw.choice(HOSTILE), draw))
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(inner, draw) for inner in value) + "]"
    return json.dumps(value)


def toml_text(tables: dict[str, Tree], draw: random.Random) -> str:
    """Write values as TOML, one table per key; likewise."""
    lines: list[str] = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            lines.insert(0, f"{json.dumps(name)} = {_toml_value(table)}")
            continue
        lines.append(f"[{json.dumps(name)}]")
        lines += [f"{json.dumps(key)} = {_toml_value(value)}" for key, value in table.items()]
        if draw.random() < 0.02:
            lines.append(lines[-1])
    return "\n".join(lines) + "\n"


def _toml_value(value: Tree) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # nan and inf are TOML's words too
    return '""' if value is None else json.dumps(value)
