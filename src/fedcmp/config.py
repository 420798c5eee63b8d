"""The typed recipe: every key a run has, with its default, its check and its meaning.

A recipe is a TOML file; unknown keys, wrong types (`rounds = "3"`) and impossible combinations are refused with the
key's name. Values given on the command line (`-o training.learning_rate=0.003`) replace those of the file.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedcmp.config_errors import first_mistake
from fedcmp.data.feature_forms import FeatureDtype
from fedcmp.errors import UserError
from fedcmp.federation.payload import Payload
from fedcmp.methods import NOT_FEDERATED, Chosen, choose
from fedcmp.model.prompts import INSTRUCTION

RESERVED = ("prepared", "report", "evaluations")  # folders of a run, beside those of its methods
_FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
File = Annotated[Path, Field(strict=False)]  # TOML has no paths: a string will do


class _Section(BaseModel):
    # ser_json_inf_nan: an option's inf stays inf, where JSON's null would read as "not given"
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class Run(_Section):
    """What to run and where to put it."""

    name: str = Field("run", pattern=_FOLDER_NAME, description="folder under `folder`")
    folder: File = Field(Path("runs"), description="where runs are kept")
    seed: int = Field(0, ge=0, description="of the initial projector, the order of the pairs and the partition")
    methods: list[str] = Field(
        ["fedcmp"], min_length=1, description="any of local, centralized, the aggregators and [method.NAME]'s names"
    )
    workers: int = Field(2, ge=1, le=64, description="processes that train clients side by side, one torch thread each")
    cohort: int = Field(1, ge=1, description="clients whose samples share one batch; equal to 1 up to rounding")
    cache: File | None = Field(None, description="frozen features, exported worlds; default: the user's cache folder")
    preflight: Literal["refuse", "warn"] = Field(
        "refuse", description="what follows when the run needs more memory or disk than there is (estimated beforehand)"
    )
    track: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        [], description="where curves are sent while the run works; nothing is imported, written or sent by default"
    )


class Model(_Section):
    """Frozen encoder, projector, frozen LLM."""

    vision: str = Field(
        "world",
        min_length=1,
        description="'world', a folder or a hub name of a CLIP-, SigLIP- or DINOv2-like model, or a LLaVA folder",
    )
    vision_layer: int | Annotated[list[int], Field(min_length=1)] = Field(
        -2, description="hidden states that are the features; of a list, side by side; LLaVA: -2"
    )
    vision_strategy: Literal["auto", "default", "full"] = "auto"
    language: str = Field(
        "world", min_length=1, description="'world', a folder or a hub name of a causal LM, or a LLaVA folder"
    )
    separator: str | None = Field(None, description="between picture and text; default: sep token, else a line break")
    prompt: Literal["plain", "chat"] = Field("plain", description="LLaVA's pretraining format, or the LLM's own chat")
    instruction: str = Field(INSTRUCTION, min_length=1, description="what a chat asks for where a caption is wanted")
    projector: Literal["mlp", "linear"] = "mlp"
    initialisation: Literal["llava", "normal", "scaled"] = "llava"
    projector_from: File | None = Field(
        None, description="start from this projector: a LLaVA folder, a .safetensors or LLaVA's mm_projector.bin"
    )
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "float32", description="of the frozen parts; auto: bfloat16 where a probe finds it faster on this machine"
    )
    device: str = "auto"
    frozen_precision: Literal["same", "float8"] = Field(
        "same",
        description="of the LLM's linear layers: dtype, or FP8 in both directions (emulated where there is none)",
    )
    compile: bool = Field(False, description="train through torch.compile; goes on without where there is no compiler")
    logit_rows: int | None = Field(
        None, ge=1, description="caption tokens whose logits are held at once; default: all of a batch"
    )


class ClientData(_Section):
    """One organisation's own pairs."""

    name: str = Field(min_length=1)
    pairs: File | list[File]
    images: File | None = None


class Data(_Section):
    """The pairs. With `clients`, each client's own; else one collection that the scenario divides."""

    format: Literal["world", "llava", "webdataset", "parquet"] = "world"
    pairs: File | list[File] | None = Field(None, description="JSON/JSONL files, tar shards or parquet files")
    images: File | None = Field(None, description="the image folder of LLaVA's format")
    clients: list[ClientData] = Field([], description="one entry an organisation, instead of pairs and images")
    num_pairs: int | None = Field(None, ge=1, description="use the first so many pairs; the embedded world: how many")
    held_out: Fraction = Field(0.05, description="share of each client's pairs kept for evaluation (not for the world)")
    max_caption_tokens: int = Field(64, ge=1, description="longer captions are cut, without an end token")
    max_bad_fraction: Fraction = Field(0.01, description="share of unusable pairs past which the run stops")
    max_unknown_fraction: Fraction = Field(0.1, description="share of unknown words past which captions are refused")
    max_pixels: int = Field(178_956_970, ge=1, description="larger pictures are refused before they are decoded")
    feature_store: bool = Field(True, description="compute the frozen features once and keep them")
    feature_dtype: FeatureDtype = Field("float16", description="float8_e4m3 and int8 store a scale a token beside")


class Scenario(_Section):
    """Who holds what."""

    kind: Literal["iid", "image", "text", "joint", "cross", "style", "family", "given", "manifest"] = "iid"
    clients: int = Field(5, ge=1)
    wrong_captions: dict[str, Fraction] = Field({}, description="client number -> share of its captions swapped")
    manifest: File | None = Field(None, description="a folder that `fedcmp scenario build` wrote: kind = 'manifest'")
    max_missing_fraction: Fraction = Field(0.5, description="share of its ids that may be missing among the pairs")
    rate_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="client number -> factor on its learning rate, for a client that diverges"
    )


class Federation(_Section):
    """Rounds and the server's habits."""

    rounds: int = Field(10, ge=1)
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients that take part in a round")
    on_bad_update: Literal["stop", "drop"] = "stop"
    payload: Payload = Field(
        "float32", description="how updates travel; int8: blocks of 256 with a scale (docs/performance.md)"
    )
    error_feedback: bool = Field(True, description="what rounding loses of an update goes along in the next round")
    broadcast_payload: Payload | None = Field(
        None, description="how the server's projector travels; default: bfloat16, float32 where payload is"
    )


class Training(_Section):
    """A client's local training; centralized and local-only learners use the same."""

    batch_size: int = Field(16, ge=1, description="pairs a step and client; centralized uses the same")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's peak rate")
    schedule: Literal["run", "round"] = Field("run", description="one cosine over all rounds, or one in each round")
    warmup_ratio: Fraction = 0.03
    beta_1: Decay = 0.9
    beta_2: Decay = 0.99
    weight_decay: float = Field(0.0, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="samples that go through the LLM at once, gradients summed; default: all of a step",
    )


class Evaluation(_Section):
    """How the projector is judged."""

    every: int = Field(1, ge=1, description="rounds between evaluations; the last round always is evaluated")
    split: Literal["test", "validation"] = Field("test", description="of the embedded world; tune on validation only")
    captions: int = Field(512, ge=1, description="held-out pairs for the caption loss")
    questions_per_kind: int = Field(64, ge=0, description="balanced questions of each kind (embedded world)")
    questions: File | None = Field(None, description="a JSONL file of questions about held-out pairs of your own data")
    samples: int = Field(8, ge=0, description="pictures shown in the report with each model's caption")
    sample_tokens: int = Field(40, ge=1, description="longest caption written for them")


class Method(_Section):
    """What one method does differently."""

    learning_rate: float | None = Field(None, gt=0)
    aggregator: str | None = Field(None, description="the aggregator behind this name; default: the name itself")
    options: dict[str, Any] = Field({}, description="the aggregator's options")
    objective: str | None = Field(
        None, description="what clients minimise; default: the caption loss, or the name's own"
    )
    objective_options: dict[str, Any] = Field({}, description="the local objective's options")


class Recipe(_Section):
    """Everything that a run depends on."""

    run: Run = Run()
    model: Model = Model()
    data: Data = Data()
    scenario: Scenario = Scenario()
    federation: Federation = Federation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    method: dict[str, Method] = Field({}, description="[method.NAME]: what the method of that name does differently")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        data = self.data
        if data.format == "world":
            if data.pairs or data.clients or data.images:
                raise ValueError(
                    "data.pairs: the embedded world makes its own pairs; "
                    "set data.format to llava, webdataset or parquet"
                )
            if data.num_pairs is None:
                raise ValueError("data.num_pairs: say how many pairs of the embedded world to use, for example 12000")
            if self.evaluation.questions:
                raise ValueError(
                    "evaluation.questions: the embedded world asks its own questions; "
                    "evaluation.questions_per_kind says how many"
                )
        elif not data.pairs and not data.clients:
            raise ValueError(
                "data.pairs: missing; name the JSON, JSONL, tar or parquet files, or give [[data.clients]]"
            )
        if data.pairs and data.clients:
            raise ValueError("data.clients: give either data.pairs or [[data.clients]], not both")
        if data.clients and data.num_pairs is not None:
            raise ValueError(
                "data.num_pairs: not with [[data.clients]]; give each client its own files, cut as you wish"
            )
        if data.clients and self.scenario.kind != "given":
            raise ValueError('scenario.kind: clients that bring their own pairs need scenario.kind = "given"')
        if self.scenario.kind == "given" and not data.clients:
            raise ValueError(
                'scenario.kind = "given": needs [[data.clients]]; or choose iid, image, text, joint or cross'
            )
        if (self.scenario.kind == "manifest") != (self.scenario.manifest is not None):
            raise ValueError(
                'scenario.manifest: goes with scenario.kind = "manifest", and that needs it: a folder that '
                "`fedcmp scenario build` wrote"
            )
        names = [client.name for client in data.clients]
        if len(set(names)) != len(names):
            raise ValueError("data.clients: two clients have the same name")
        if self.scenario.kind in ("style", "family") and data.format != "world":
            raise ValueError(
                f'scenario.kind = "{self.scenario.kind}": only the embedded world knows styles and families'
            )
        clients = len(data.clients) or self.scenario.clients
        for key in ("wrong_captions", "rate_factors"):
            for client in getattr(self.scenario, key):
                if self.scenario.kind == "manifest":
                    raise ValueError(f'scenario.{key}: not with scenario.kind = "manifest"')
                if not client.isdecimal() or int(client) >= clients:
                    raise ValueError(f"scenario.{key}.{client}: no such client; they are numbered 0 to {clients - 1}")
        if self.model.prompt == "plain" and self.model.instruction != INSTRUCTION:
            raise ValueError('model.instruction: goes with model.prompt = "chat"; the plain format has none')
        if len(set(self.run.track)) != len(self.run.track):
            raise ValueError("run.track: a tracker is named twice")
        if len(set(self.run.methods)) != len(self.run.methods):
            raise ValueError("run.methods: a method is named twice")
        for name in [*self.run.methods, *self.method]:
            _check_method(name, self.method.get(name))
        return self

    def method_settings(self, name: str) -> Method:
        """The settings of one method, defaults where the recipe is silent."""
        return self.method.get(name, Method())

    def chosen(self, name: str) -> Chosen:
        """Server rule and local objective of one federated method."""
        return _chosen(name, self.method_settings(name))


def _chosen(name: str, given: Method) -> Chosen:
    return choose(
        name,
        aggregator=given.aggregator,
        objective=given.objective,
        options=given.options,
        objective_options=given.objective_options,
    )


def _check_method(name: str, given: Method | None) -> None:
    place = "run.methods" if given is None else f"method.{name}"
    if not re.fullmatch(_FOLDER_NAME, name):
        raise ValueError(f"{place}: {name!r} names a folder; use letters, digits, '.', '_' and '-'")
    if name in RESERVED:
        raise ValueError(f"{place}: {name!r} is a folder that every run has; choose another name")
    method = given or Method()
    if name in NOT_FEDERATED:
        if method.options or method.aggregator or method.objective or method.objective_options:
            raise ValueError(f"{place}: has no aggregator, hence no options; only learning_rate can be set")
        return
    try:
        chosen = _chosen(name, method)
    except ValueError as error:
        text = str(error)
        raise ValueError(
            f"{place}.{text}" if text.startswith(("aggregator:", "objective:")) else f"{place}: {text}"
        ) from error
    try:
        chosen.create_aggregator()
    except (ValueError, TypeError) as error:
        raise ValueError(f"method.{name}.options: {error}") from error
    try:
        chosen.create_objective()
    except (ValueError, TypeError) as error:
        raise ValueError(f"method.{name}.objective_options: {error}") from error


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read, override and check a recipe.

    Relative paths are taken from the recipe's own folder; model.vision and model.language too where such a folder is
    there, else they stay as typed: a folder where the command runs, or a hub name.

    Args:
        path: a TOML file.
        overrides: "section.key=value" texts, the value in TOML's spelling; bare words are taken as strings.

    Raises:
        UserError: no such file, no TOML, an unknown key, a wrong type, an impossible combination: names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such recipe file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    for text in overrides or []:
        override(content, text)
    recipe = parse_recipe(content, str(path))
    return _from_folder(recipe, path.resolve().parent)


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """A recipe from parsed TOML.

    Raises:
        UserError: names `source` and the key of the first mistake.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {first_mistake(error, content, Recipe)}") from error


def dump_recipe(recipe: Recipe, **extra: dict[str, Any]) -> str:
    """The resolved recipe as TOML, with further tables (versions, the manifest's hash) at its end."""
    return tomli_w.dumps(_plain(recipe.model_dump(mode="python") | extra))


def _plain(value: Any) -> Any:
    """What TOML can say: paths as strings, no None, numbers (inf too) as they are."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def read_dumped(path: Path) -> Recipe:
    """A recipe from a file that `dump_recipe` wrote.

    Raises:
        UserError: the file is missing or torn.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable recipe ({error}); start the run again with --overwrite") from error
    content.pop("versions", None)
    return parse_recipe(content, str(path))


def override(content: dict[str, Any], text: str) -> None:
    """Set "section.key=value" in parsed TOML.

    Raises:
        UserError: not of that form.
    """
    key, separator, value = text.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names) or len(names) < 2:
        raise UserError(f"-o {text}: write section.key=value, for example -o training.learning_rate=0.003")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table = content
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"-o {text}: {name} is a value, not a section")
    table[names[-1]] = parsed


def _from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """Paths of data and models are relative to the recipe; the runs' folder to where the command is typed."""

    def at(path: Path) -> Path:
        path = path.expanduser()
        return path if path.is_absolute() else folder / path

    def each(paths: Path | list[Path] | None) -> Path | list[Path] | None:
        return [at(p) for p in paths] if isinstance(paths, list) else at(paths) if paths else None

    def frozen_part(name: str) -> str:
        here = at(Path(name))
        return str(here) if name != "world" and here.is_dir() else name

    data = recipe.data
    clients = [c.model_copy(update={"pairs": each(c.pairs), "images": each(c.images)}) for c in data.clients]
    moved = data.model_copy(update={"pairs": each(data.pairs), "images": each(data.images), "clients": clients})
    questions = each(recipe.evaluation.questions)
    evaluation = recipe.evaluation.model_copy(update={"questions": questions})
    parts = {key: frozen_part(getattr(recipe.model, key)) for key in ("vision", "language")}
    model = recipe.model.model_copy(update=parts | {"projector_from": each(recipe.model.projector_from)})
    scenario = recipe.scenario.model_copy(update={"manifest": each(recipe.scenario.manifest)})
    return recipe.model_copy(update={"data": moved, "model": model, "evaluation": evaluation, "scenario": scenario})
