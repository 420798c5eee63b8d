"""The sections of a recipe: every key, its default, its check and its meaning."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedcmp.data.feature_forms import FeatureDtype
from fedcmp.model.prompts import INSTRUCTION
from fedcmp.wire.payload import Payload

FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
File = Annotated[Path, Field(strict=False)]  # TOML has no paths: a string will do


class Section(BaseModel):
    """Unknown keys and wrong types are refused; nothing changes once it is made."""

    # ser_json_inf_nan: an option's inf stays inf, where JSON's null would read as "not given"
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class Run(Section):
    """What to run and where to put it."""

    name: str = Field("run", pattern=FOLDER_NAME, description="folder under `folder`")
    folder: File = Field(Path("runs"), description="where runs are kept")
    seed: int = Field(0, ge=0, description="of the initial projector, the order of the pairs and the partition")
    methods: list[str] = Field(
        ["shared-basis"],
        min_length=1,
        description="any of local, centralized, the aggregators and [method.NAME]'s names",
    )
    workers: int = Field(2, ge=1, le=64, description="processes that train clients side by side, one torch thread each")
    cohort: int = Field(1, ge=1, description="clients whose samples share one batch; equal to 1 up to rounding")
    cache: File | None = Field(None, description="frozen features, exported worlds; default: the user's cache folder")
    preflight: Literal["refuse", "warn"] = Field(
        "refuse", description="what follows when the run needs more memory or disk than there is (estimated beforehand)"
    )
    save_seconds: float | None = Field(
        None,
        gt=0,
        description="seconds between saves inside a client's part of a round, from which a killed run continues; "
        "default: a run continues from its last complete round",
    )
    track: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        [], description="where curves are sent while the run works; nothing is imported, written or sent by default"
    )

    @property
    def place(self) -> Path:
        """The run's own folder: folder/name."""
        return self.folder / self.name


class Model(Section):
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
    projector: str = Field("mlp", description="what is trained: mlp (LLaVA's two layers) or linear")
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


class ClientData(Section):
    """One organisation's own pairs."""

    name: str = Field(min_length=1)
    pairs: File | list[File]
    images: File | None = None


class Data(Section):
    """The pairs. With `clients`, each client's own; else one collection that the scenario divides."""

    format: Literal["world", "llava", "webdataset", "parquet"] = "world"
    pairs: File | list[File] | None = Field(None, description="JSON/JSONL files, tar shards or parquet files")
    images: File | None = Field(None, description="the image folder of LLaVA's format")
    clients: list[ClientData] = Field([], description="one entry an organisation, instead of pairs and images")
    num_pairs: int | None = Field(None, ge=1, description="use the first so many pairs; the embedded world: how many")
    train_share: float = Field(1.0, gt=0, le=1, description="share of each client's training pairs that is used")
    held_out: Fraction = Field(0.05, description="share of each client's pairs kept for evaluation (not for the world)")
    max_caption_tokens: int = Field(64, ge=1, description="longer captions are cut, without an end token")
    max_bad_fraction: Fraction = Field(0.01, description="share of unusable pairs past which the run stops")
    max_unknown_fraction: Fraction = Field(0.1, description="share of unknown words past which captions are refused")
    max_pixels: int = Field(178_956_970, ge=1, description="larger pictures are refused before they are decoded")
    feature_store: bool = Field(True, description="compute the frozen features once and keep them")
    feature_dtype: FeatureDtype = Field("float16", description="float8_e4m3 and int8 store a scale a token beside")


class Scenario(Section):
    """Who holds what."""

    kind: Literal["iid", "image", "text", "joint", "cross", "style", "family", "given", "manifest"] = "iid"
    clients: int = Field(5, ge=1)
    wrong_captions: dict[str, Fraction] = Field({}, description="client number -> share of its captions swapped")
    manifest: File | None = Field(None, description="a folder that `fedcmp scenario build` wrote: kind = 'manifest'")
    max_missing_fraction: Fraction = Field(0.5, description="share of its ids that may be missing among the pairs")
    rate_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="client number -> factor on its learning rate, for a client that diverges"
    )


class Federation(Section):
    """Rounds and the server's habits."""

    rounds: int = Field(10, ge=1)
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients that take part in a round")
    on_bad_update: Literal["stop", "drop"] = "stop"
    min_clients: int = Field(1, ge=1, description="fewest accepted replies with which a round is closed")
    deadline: float | None = Field(
        None, gt=0, description="seconds after which a round is closed without the clients that have not replied"
    )
    payload: Payload = Field(
        "float32", description="how updates travel; int8: blocks of 256 with a scale (docs/performance.md)"
    )
    error_feedback: bool = Field(True, description="what rounding loses of an update goes along in the next round")
    broadcast_payload: Payload | None = Field(
        None, description="how the server's projector travels; default: bfloat16, float32 where payload is"
    )


class Training(Section):
    """A client's local training; centralized and local-only learners use the same."""

    batch_size: int = Field(16, ge=1, description="pairs a step and client; centralized uses the same")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="peak learning rate of AdamW for every method; default: worked out for each method from its "
        "steps per client (docs/methods.md)",
    )
    rate_factor: float = Field(
        1.0, gt=0, description="factor on every learning rate that is worked out because none is named"
    )
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


class Evaluation(Section):
    """How the projector is judged."""

    every: int = Field(1, ge=1, description="rounds between evaluations; the last round always is evaluated")
    split: Literal["test", "validation"] = Field(
        "test",
        description="pairs to evaluate on: the held-out ones, or, for tuning, as many of the others (the embedded "
        "world has a validation set of its own)",
    )
    captions: int = Field(512, ge=1, description="held-out pairs for the caption loss")
    questions_per_kind: int = Field(64, ge=0, description="balanced questions of each kind (embedded world)")
    questions: File | None = Field(None, description="a JSONL file of questions about held-out pairs of your own data")
    samples: int = Field(8, ge=0, description="pictures shown in the report with each model's caption")
    sample_tokens: int = Field(40, ge=1, description="longest caption written for them")


class Method(Section):
    """What one method does differently."""

    learning_rate: float | None = Field(
        None, gt=0, description="this method's peak learning rate; default: training.learning_rate"
    )
    aggregator: str | None = Field(None, description="the aggregator behind this name; default: the name itself")
    options: dict[str, Any] = Field({}, description="the aggregator's options")
    objective: str | None = Field(
        None, description="what clients minimise; default: the caption loss, or the name's own"
    )
    objective_options: dict[str, Any] = Field({}, description="the local objective's options")
