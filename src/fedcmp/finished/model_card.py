"""The model card of an exported run: recipe, data, figures, versions, how to load it. Reads the run's files only.

A card is made to be published: folders and files of the recipe are given by their last name, those of the pairs not at
all, and names that others chose are escaped, so that they are words and never HTML, links or headings. The licence is
left to whoever publishes: it must fit the base models' and the data's.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from fedcmp.references import reference_of
from fedcmp.runs.benchmark_results import RESULTS, UNITS, read_results
from fedcmp.runs.reading import Run, load_runs
from fedcmp.runs.records import Evaluation, say_split
from fedcmp.terminal import shown, shown_lines

CHOSEN = (
    "\nOf all rounds this one was chosen, because its loss on these pairs is the lowest: on other pairs expect a "
    "slightly higher one."
)
_HIDDEN = {"run": ("folder", "cache", "workers"), "data": ("pairs", "images", "clients")}
_PLACES = {
    "model": ("vision", "language", "projector_from"),
    "scenario": ("manifest",),
    "evaluation": ("questions",),
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_MARKUP = re.compile(r"[\\`*_{}\[\]<>|~#&!@]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LOAD = """```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model, processor = LlavaForConditionalGeneration.from_pretrained(FOLDER), AutoProcessor.from_pretrained(FOLDER)
conversation = [{"role": "user", "content": [{"type": "image", "url": IMAGE}, {"type": "text", "text": TEXT}]}]
inputs = processor.apply_chat_template(
    conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
out = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def model_card(
    folder: Path, *, client: int | None = None, round_number: int | None = None, chosen: bool = False
) -> str:
    """Return the text of README.md for the model of a run.

    Args:
        folder: one method's run.
        client: of a local-only run, whose projector is exported.
        round_number: after which round the projector is that of the run; None: the last one on record.
        chosen: whether the round was chosen by its loss on the held-out pairs.

    Raises:
        UserError: the folder is no run, or a file of it is not what it should be.
    """
    (run,) = load_runs(folder)
    run = run if round_number is None else run.up_to(round_number)
    recipe = published(run.recipe)
    versions = recipe.pop("versions", {})
    whose = "" if client is None else f", client {client} alone"
    return "\n".join(
        [
            *_front_matter(run.recipe),
            "",
            f"# {words(run.name)}: {words(run.method)}{whose}",
            "",
            "A LLaVA whose projector was trained with fedcmp (federated pretraining of multimodal LLMs), vision "
            f"encoder and LLM frozen: {_parts(recipe)}. {_how(run)}",
            "",
            "## Data",
            *_data(run, client),
            "",
            "## Figures",
            *_figures(run, client),
            *([CHOSEN] if chosen else []),
            *_benchmarks(run, client),
            "",
            "## How to load it",
            _LOAD,
            *_prompt(recipe),
            "",
            "## Recipe",
            *_fenced(tomli_w.dumps(recipe).strip()),
            "",
            "## Versions",
            ", ".join(f"{words(name)} {words(version)}" for name, version in versions.items()) or "not recorded",
            "",
        ]
    )


def published(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without the places of its writer's disk: models and files by their last name, pairs left out."""
    out: dict[str, Any] = {}
    for section, values in recipe.items():
        if not isinstance(values, Mapping):
            out[section] = values
            continue
        kept = {key: value for key, value in values.items() if key not in _HIDDEN.get(section, ())}
        for key in _PLACES.get(section, ()):
            if isinstance(kept.get(key), str):
                kept[key] = _public_name(kept[key])
        out[section] = kept
    return out


def _public_name(name: str) -> str:
    """Return a hub name as it is; of a folder or file its last name."""
    return name if _is_hub_name(name) else Path(name).name


def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _front_matter(recipe: Mapping[str, Any]) -> list[str]:
    model = recipe.get("model", {})
    names = dict.fromkeys(str(model.get(key, "")) for key in ("language", "vision"))
    bases = [name for name in names if _is_hub_name(name)]
    return [
        "---",
        "# license: to be filled in; it must fit those of the base models and of the data",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [llava, fedcmp, federated-learning]",
        *(["base_model:", *(f"- {name}" for name in bases)] if bases else []),
        "---",
    ]


def _parts(recipe: Mapping[str, Any]) -> str:
    model = recipe.get("model", {})
    vision, language = (str(model.get(key, "")) for key in ("vision", "language"))
    told = ("the embedded world's own" if name == "world" else _code(name) for name in (vision, language))
    return "encoder {}, LLM {}".format(*told)


def _how(run: Run) -> str:
    if reference_of(run.method) == "local":
        return f"{run.round_reached} rounds on one client's own pairs, without a server."
    if run.method.startswith("centralized"):
        return f"{run.round_reached} rounds on the pooled pairs of all clients."
    method = _code(run.method)
    return f"{run.round_reached} rounds of local training and merging by {method}, each client on its own pairs."


def _data(run: Run, client: int | None) -> list[str]:
    """Return what the model has seen: of a local-only run that client's pairs, of an unfinished one not all of them."""
    holdings = [holding for holding in run.holdings if client is None or holding.client == client]
    pairs = sum(holding.num_pairs for holding in holdings) or run.num_pairs or 0
    whole = run.rounds is None or run.round_reached >= run.rounds
    seen = "each seen once" if whole else f"those of the first {run.round_reached} of {run.rounds} rounds seen once"
    scenario, data = run.recipe.get("scenario", {}), run.recipe.get("data", {})
    drawn = f"made by the {words(data.get('world', 'embedded'))} world"
    source = drawn if data.get("format") == "world" else f"in {words(data.get('format'))} format"
    lines = [
        f"{pairs} image-caption pairs {source}, scenario {_code(scenario.get('kind', '?'))}, {seen}. "
        "Where they are from and under which terms they may be used is to be filled in.",
        "",
        "| Client | Pairs | Left out as unusable | Captions swapped on purpose |",
        "| --- | ---: | ---: | ---: |",
    ]
    for holding in holdings:
        bad = int(sum(holding.bad_pairs.values()))
        lines.append(f"| {words(holding.name)} | {holding.num_pairs} | {bad} | {holding.wrong_captions} |")
    return lines


def _figures(run: Run, client: int | None) -> list[str]:
    measured = run.measures(run.split)
    last = measured[max(measured)] if measured else ()
    mine = [line for line in last if client is None or line.client == client]
    rows = [(f"this model (round {line.round})", line) for line in mine[:1]]
    shuffled = mine[0].shuffled_loss if mine else None
    told = {"blind": "blind: the same LLM without the image", "initial": "projector before training"}
    rows += [(title, line) for name, title in told.items() if (line := run.reference(name)) is not None]
    if not rows:
        return ["Not evaluated."]
    where = "" if run.split == "held out" else f" ({say_split(run.split)})"
    lines = [
        f"On held-out pairs of the same clients{where}; losses in nats per caption token.",
        "",
        "| Model | Caption loss | Worst group's loss | Question accuracy |",
        "| --- | ---: | ---: | ---: |",
    ]
    for title, line in rows:
        worst = f"{_figure(line.worst_group_loss)} {_group(line.worst_group)}".strip()
        lines.append(f"| {title} | {_figure(line.caption_loss)} | {worst} | {_accuracy(line)} |")
    if shuffled is not None:
        lines.append(f"| this model, each caption with another image | {_figure(shuffled)} | – | – |")
    return lines


def _benchmarks(run: Run, client: int | None) -> list[str]:
    """Return what `fedcmp evaluate --suite llava7` left in the run's folder, if anything."""
    place = run.folder / RESULTS if client is None else run.folder / RESULTS / f"client-{client}"
    models = read_results(place).models
    if not models or (client is None and len(models) > 1):
        return []
    rows = []
    for name, (title, unit) in UNITS.items():
        result = models[0].get(name)
        if result is not None and result.round in (None, run.round_reached):  # else another projector's
            asked = f"{result.asked or '–'} of {result.items or '–'}"
            form = " (prompts of another form than lmms-eval's)" if result.prompts else ""
            score = f"{result.score:.1f} ({unit})"
            named = f"{name}-world" if result.toy else title  # not the benchmark's own items
            rows.append(f"| {named}{form} | {score} | {asked} | {words(result.judge) or 'none'} |")
    heads = ["", "By lmms-eval:", "", "| Benchmark | Score | Rows asked | Judge |", "| --- | ---: | ---: | --- |"]
    return heads + rows if rows else []


def _figure(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _accuracy(line: Evaluation) -> str:
    value = line.question_accuracy
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def _group(name: str) -> str:
    return f"group “{words(name)}”" if name else ""


def words(text: object) -> str:
    """Return a text for a line of Markdown: no markup, no raw HTML, no line break, no direction mark."""
    one_line = shown(" ".join(str(text).split()))
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), one_line)


def _code(text: object) -> str:
    """Return a text as a span of code, whatever backticks it holds."""
    plain = shown(" ".join(str(text).split())).replace("|", "¦")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    gap = " " if "`" in plain else ""
    return f"{fence}{gap}{plain}{gap}{fence}"


def _fenced(text: str) -> list[str]:
    """Return the recipe's lines between fences that none of them can close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}toml", shown_lines(text), fence]


def _prompt(recipe: Mapping[str, Any]) -> list[str]:
    model = recipe.get("model", {})
    if model.get("prompt") == "chat":
        return [
            "",
            "The projector was trained inside the LLM's own chat template; for a caption, "
            f"TEXT = {_code(repr(str(model.get('instruction'))))}.",
        ]
    return [
        "",
        "The projector was trained in LLaVA's plain format: the image, a separator, the text. Without a text part "
        "(leave it out) the model writes a caption; it was not tuned to follow instructions.",
    ]
