"""Write a recipe for a user's own folder of pairs, filled in from what is found there."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fedcmp.config.keys import toml_value
from fedcmp.data.finding import FoundData, FoundPairs, find_data
from fedcmp.data.pairs import PairSource, open_pairs
from fedcmp.errors import UserError, counted

ROUNDS, BATCH, CLIENTS = 10, 16, 5
CLUSTERED = 1000  # pairs from which one collection is divided by similar images, not at random
WANTED_HELD_OUT = 200  # pairs, all clients together: fewer tell methods apart badly
LISTED = 16  # files that a recipe names one by one
UNKNOWN = 0.1  # share of unknown words past which captions are too much for the embedded LLM
SMALL_VISION, SMALL_LANGUAGE = "openai/clip-vit-base-patch32", "HuggingFaceTB/SmolLM2-135M"


@dataclass(frozen=True)
class OwnRecipe:
    """Hold what `fedcmp init` writes and prints.

    Attributes:
        text: the recipe.
        remarks: one line each about what was found, left out or chosen, for the person who asked.
    """

    text: str
    remarks: tuple[str, ...]


def own_recipe(
    folder: Path,
    path: Path,
    *,
    vision: str | None = None,
    language: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> OwnRecipe:
    """Write a recipe for the pairs in a folder.

    Args:
        folder: one collection, or one subfolder per organisation.
        path: where the recipe will be; files below it are named relative to it.
        vision: model.vision; default: the embedded world's where its LLM knows the captions' words.
        language: model.language, likewise.
        say: called with what is being done.

    Raises:
        UserError: no pairs are found, or those found cannot be used.
    """
    data = find_data(folder)
    sources: dict[str, PairSource] = {}
    for name, found in data.clients.items():
        say(f"reading {name or folder}")
        sources[name] = open_pairs(found.format, found.files, found.images, owner=f"client {name}" if name else "")
    sizes = {name: len(source) for name, source in sources.items()}
    remarks = [_found(name or str(folder), source) for name, source in sources.items()]
    remarks += [f"left out: {reason}" for reason in data.unused]
    total = sum(sizes.values())
    clients = len(sizes) if len(sizes) > 1 else min(CLIENTS, max(2, total // (2 * BATCH)))
    clustered = len(sizes) == 1 and total >= CLUSTERED
    # clusters differ in size: the smallest of five is rarely below a quarter of their mean
    smallest = min(sizes.values()) if len(sizes) > 1 else total // (clients * (4 if clustered else 1))
    if smallest < 2:
        short = min(sizes, key=lambda name: sizes[name])
        held, least = counted(sizes[short], "usable pair"), 2 if len(sizes) > 1 else 2 * clients
        raise UserError(f"{short or folder}: holds {held}; at least {least} are needed")
    model, remark = _model(sources, vision, language)
    remarks += [remark] if remark else []
    held_out = round(min(0.2, max(0.05, math.ceil(100 * WANTED_HELD_OUT / total) / 100)), 2)
    training = smallest - max(1, round(held_out * smallest))
    rounds = max(1, min(ROUNDS, training // BATCH))
    lines = [
        f"# Pairs of {folder.resolve().name}: " + "; ".join(_found(name, source) for name, source in sources.items()),
        f"# What it will need: fedcmp train {path.name} --plan     What a key means: fedcmp config KEY",
        "",
        "[run]",
        f"name = {toml_value(_run_name(folder))}",
        'methods = ["local", "centralized", "fedavg", "shared-basis"]     # `fedcmp methods` lists all',
        "",
        *model,
        "[data]",
        *_data(data, sizes, path.resolve().parent),
        f"held_out = {held_out}      # share of each client's pairs kept for evaluation",
        "",
        *_clients(data, path.resolve().parent),
        "[scenario]",
        *_scenario(data, clients, clustered=clustered),
        "",
        "[federation]",
        f"rounds = {rounds}" + ("" if rounds == ROUNDS else "      # the smallest client has no more full batches"),
        "",
        "[training]",
        f"batch_size = {BATCH}",
    ]
    return OwnRecipe("\n".join(lines) + "\n", tuple(remarks))


def _found(name: str, source: PairSource) -> str:
    refused = Counter(bad.reason for bad in source.rejected)
    told = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
    place = f"{name}: " if name else ""
    return f"{place}{len(source):,} pairs" + (f", {refused.total():,} refused ({told})" if told else "")


def _run_name(folder: Path) -> str:
    """Return the folder's name as far as a run may have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("._-") or "own"


def _data(data: FoundData, sizes: dict[str, int], folder: Path) -> list[str]:
    lines = [f'format = "{data.format}"']
    return lines + (_files(data.clients[""], folder) if "" in sizes else [])


def _clients(data: FoundData, folder: Path) -> list[str]:
    lines: list[str] = []
    for name, found in data.clients.items():
        if name:
            lines += ["[[data.clients]]", f"name = {toml_value(name)}", *_files(found, folder), ""]
    return lines


def _files(found: FoundPairs, folder: Path) -> list[str]:
    files = found.files
    suffix = found.files[0].suffix
    if len(found.files) > LISTED and set(found.files) == set(found.folder.glob(f"*{suffix}")):
        files = (found.folder,)
    named = [_relative(path, folder) for path in files]
    lines = [f"pairs = {toml_value(named[0] if len(named) == 1 else named)}"]
    return lines + ([] if found.images is None else [f"images = {toml_value(_relative(found.images, folder))}"])


def _relative(path: Path, folder: Path) -> str:
    """Return a path as a recipe in that folder names it."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would leave through links
    inside = whole.is_relative_to(folder)
    name = (str(whole.relative_to(folder)) if inside else str(whole)) or "."
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{name!r}: the name is not UTF-8, so no recipe can hold it; rename it") from None
    return f"./{name}" if name.startswith("~") else name


def _scenario(data: FoundData, clients: int, *, clustered: bool) -> list[str]:
    if "" not in data.clients:
        return ['kind = "given"      # each organisation keeps its own pairs']
    if clustered:
        kind = 'kind = "image"      # clients are clusters of similar images; "iid" deals pairs out at random'
    else:
        kind = 'kind = "iid"      # pairs are dealt out at random; "image": clients are clusters of similar images'
    return [kind, f"clients = {clients}"]


def _model(sources: dict[str, PairSource], vision: str | None, language: str | None) -> tuple[list[str], str]:
    """Return the [model] section, and what to tell about it."""
    share = 0.0 if language is not None else max(_unknown_share(source) for source in sources.values())
    if vision is None and language is None and share <= UNKNOWN:
        lines = [
            "# The embedded tiny encoder and LLM take these captions. For real ones:",
            "# [model]",
            f"# vision = {toml_value(SMALL_VISION)}",
            f"# language = {toml_value(SMALL_LANGUAGE)}",
            "",
        ]
        return lines, ""
    chosen = [
        "[model]      # a folder or a hub name each; docs/models.md says which were run",
        f"vision = {toml_value(vision or SMALL_VISION)}",
        f"language = {toml_value(language or SMALL_LANGUAGE)}",
        "",
    ]
    if language is not None:
        return chosen, ""
    return chosen, (
        f"model.language: the embedded LLM does not know {100 * share:.0f} % of the captions' words, so the recipe "
        f"names {SMALL_LANGUAGE}, which is fetched from the hub when training begins; --language names another"
    )


def _unknown_share(source: PairSource) -> float:
    """Return the share of words in a sample of captions that the embedded world's LLM does not know."""
    step = max(1, len(source) // 1000)
    words = Counter(word for index in range(0, len(source), step) for word in _words(source.pair(index).caption))
    known = _vocabulary()
    unknown = sum(count for word, count in words.items() if word not in known)
    return unknown / max(1, words.total())


@cache
def _vocabulary() -> frozenset[str]:
    from fedcmp.world.tokenizer import vocabulary

    return frozenset(vocabulary())


def _words(caption: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", caption)
