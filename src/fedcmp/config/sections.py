"""The sections of a recipe: every key, its default, its check and its meaning.

Numbers have upper bounds far above what anybody needs: a slip such as 2^70 is refused where it stands.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fedcmp.config.values import check_label, check_path, check_text
from fedcmp.model.prompts import INSTRUCTION
from fedcmp.references import FeatureDtype, Payload

FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MOST_PAIRS = 10**10
MOST_SECONDS = 10**8
LARGEST_SEED = 2**63 - 1

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]  # what float32 holds
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Layer = Annotated[int, Field(ge=-1000, le=1000)]
File = Annotated[Path, Field(strict=False), BeforeValidator(check_path)]  # TOML has no paths: a string will do
Label = Annotated[str, AfterValidator(check_label)]
Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(check_text)]
SiteName = Annotated[str, Field(pattern=FOLDER_NAME)]
ModelName = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(check_text)]


class Section(BaseModel):
    """Unknown keys and wrong types are refused; nothing changes once it is made."""

    # ser_json_inf_nan: an option's inf stays inf, where JSON's null would read as "not given"
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class Run(Section):
    """What to run and where to put it."""

    name: str = Field("run", pattern=FOLDER_NAME, description="name of the run and of its folder under `folder`")
    folder: File = Field(Path("runs"), description="folder that runs are kept in")
    seed: Seed = Field(
        0,
        description="random seed of the initial projector, of the order of the pairs and of how they are assigned to "
        "clients",
    )
    methods: list[str] = Field(
        ["shared-basis"],
        min_length=1,
        max_length=1000,
        description="methods to run and compare (`fedcmp methods` lists them), or names of [method.NAME] tables",
    )
    workers: int = Field(
        2,
        ge=1,
        le=64,
        description="processes that train clients in parallel, with one CPU thread each; more are faster and take more "
        "memory",
    )
    cohort: int = Field(
        1,
        ge=1,
        le=10_000,
        description="clients that one worker trains together, their samples in one batch; raising it speeds up GPUs, "
        "takes more memory, and changes results by rounding only",
    )
    cache: File | None = Field(
        None,
        description="folder for frozen features and the embedded world's images, shared by all runs; default: "
        "$FEDCMP_CACHE, else the user's cache folder",
    )
    preflight: Literal["refuse", "warn"] = Field(
        "refuse", description="what to do when the estimated memory or disk space exceeds what the machine has"
    )
    save_seconds: Seconds | None = Field(
        None,
        description="seconds between saves within a client's round, from which a killed run resumes; default: it "
        "resumes from its last complete round",
    )
    track: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        [], description="trackers that receive the curves while the run works; none by default"
    )

    @property
    def place(self) -> Path:
        """Return the run's own folder: folder/name."""
        return self.folder / self.name


class Model(Section):
    """Frozen encoder, projector, frozen LLM."""

    vision: ModelName = Field(
        "world",
        description="frozen image encoder: 'world' (the embedded one), a folder or a hub name of a CLIP-, SigLIP- or "
        "DINOv2-like model, or a LLaVA folder",
    )
    vision_layer: Layer | Annotated[list[Layer], Field(min_length=1, max_length=100)] = Field(
        -2,
        description="encoder layer(s) used as features, -1 being the last; several layers are concatenated; LLaVA: -2",
    )
    vision_strategy: Literal["auto", "default", "full"] = Field(
        "auto",
        description="'default' drops the tokens in front of the patches (class token, registers), 'full' keeps them, "
        "'auto' drops them where there are any",
    )
    language: ModelName = Field(
        "world",
        description="frozen LLM: 'world' (the embedded one), a folder or a hub name of a causal LM, or a LLaVA folder",
    )
    separator: Text | None = Field(
        None,
        description="text between the image and the caption; default: the tokenizer's sep token, else a line break",
    )
    prompt: Literal["plain", "chat"] = Field(
        "plain", description="format of the text: LLaVA's pretraining format, or the LLM's own chat template"
    )
    instruction: Text = Field(INSTRUCTION, description="with prompt = 'chat': the instruction that asks for a caption")
    projector: Text = Field(
        "mlp", description="the module that is trained: mlp (LLaVA's two layers with GELU) or linear (one layer)"
    )
    initialisation: Literal["llava", "normal", "scaled"] = Field(
        "llava",
        description="initial weights of the projector: LLaVA's (torch's default), normal with a standard deviation of "
        "0.02, or scaled by the fan-in with the last layer a tenth of that",
    )
    projector_from: File | None = Field(
        None,
        description="start from this trained projector: a LLaVA folder, a .safetensors file or LLaVA's "
        "mm_projector.bin",
    )
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "float32",
        description="data type of the frozen parts; auto: bfloat16 where a probe finds it faster on this machine",
    )
    device: Text = Field("auto", description="device of the frozen parts: auto (a GPU if there is one), cpu, cuda, ...")
    frozen_precision: Literal["same", "float8"] = Field(
        "same",
        description="precision of the LLM's linear layers: that of dtype, or FP8 forwards and backwards (emulated on "
        "machines without FP8)",
    )
    compile: bool = Field(
        False, description="train through torch.compile; without a compiler, training continues without it"
    )
    logit_rows: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="caption tokens whose logits are held in memory at once; fewer take less memory; default: all of "
        "a batch",
    )


class ClientData(Section):
    """One organisation's own pairs."""

    name: Label = Field(description="name of the client in records and reports")
    pairs: File | list[File] = Field(description="its JSON/JSONL files, tar shards or parquet files")
    images: File | None = Field(None, description="its image folder (llava format); default: the folder of its pairs")


class Data(Section):
    """The pairs. With `clients`, each client's own; else one collection that the scenario divides."""

    format: Literal["world", "llava", "webdataset", "parquet"] = Field(
        "world", description="'world' (drawn by the embedded world), LLaVA's JSON, WebDataset tars, or parquet files"
    )
    world: Literal["embedded", "untouched"] = Field(
        "embedded",
        description="with format = 'world': the embedded world's families and styles, or those of the untouched world, "
        "which neither the frozen models nor any tuning has seen (docs/scenarios.md)",
    )
    pairs: File | list[File] | None = Field(None, description="JSON/JSONL files, tar shards or parquet files")
    images: File | None = Field(
        None, description="image folder that paths in LLaVA's JSON start from; default: the folder of the first file"
    )
    clients: list[ClientData] = Field(
        [], max_length=10**6, description="one entry per organisation with its own pairs, instead of pairs and images"
    )
    num_pairs: int | None = Field(
        None, ge=1, le=MOST_PAIRS, description="number of pairs used, from the beginning; the embedded world draws them"
    )
    train_share: float = Field(1.0, gt=0, le=1, description="share of each client's training pairs that is used")
    held_out: Fraction = Field(
        0.05, description="share of each client's pairs held out for evaluation (the embedded world draws its own)"
    )
    max_caption_tokens: Count = Field(
        64, description="maximum caption length in tokens; longer captions are cut, without an end token"
    )
    max_bad_fraction: Fraction = Field(0.01, description="maximum share of unusable pairs; the run stops above it")
    max_unknown_fraction: Fraction = Field(
        0.1, description="maximum share of caption tokens unknown to the LLM; the run is refused above it"
    )
    max_pixels: int = Field(
        178_956_970, ge=1, le=10**10, description="maximum pixels of an image; larger ones are refused undecoded"
    )
    feature_store: bool = Field(
        True, description="encode each image once and keep its features on disk; false: encode images in every round"
    )
    feature_dtype: FeatureDtype = Field(
        "float16",
        description="data type of stored features; float8_e4m3 and int8 take half the space, with a scale per token",
    )


class Scenario(Section):
    """Who holds what."""

    kind: Literal["iid", "image", "text", "joint", "cross", "style", "family", "given", "manifest"] = Field(
        "iid",
        description="how pairs are assigned to clients: at random; by clusters of image, caption, joint or cross-modal "
        "embeddings; by the embedded world's style or family; given by [[data.clients]]; or by a manifest",
    )
    clients: int = Field(5, ge=1, le=10**6, description="number of clients")
    wrong_captions: dict[str, Fraction] = Field(
        {}, description="client number -> share of its captions swapped, to imitate an unreliable client"
    )
    manifest: File | None = Field(
        None, description="with kind = 'manifest': a folder written by `fedcmp scenario build`"
    )
    max_missing_fraction: Fraction = Field(
        0.5, description="maximum share of the manifest's ids that may be missing among the pairs"
    )
    rate_factors: dict[str, Annotated[float, Field(gt=0, le=1e30)]] = Field(
        {}, description="client number -> factor on its learning rate, to imitate a client that diverges"
    )
    client_seconds: list[Seconds] = Field(
        [],
        max_length=10**6,
        description="seconds that each client needs for one part of its pairs, one number per client, to imitate slow "
        "clients; default: as fast as they are",
    )
    clock: Literal["virtual", "real"] = Field(
        "virtual",
        description="with client_seconds: count those seconds without waiting, or make every client really wait",
    )


class Federation(Section):
    """Rounds and what the server does in them."""

    mode: Literal["sync", "async"] = Field(
        "sync",
        description="sync: every round waits for its clients; async: the server merges whenever buffer_size replies "
        "are there, and no client waits for another (docs/asynchrony.md)",
    )
    rounds: Count = Field(10, description="number of rounds; every client's pairs are split into as many parts")
    buffer_size: Count | None = Field(
        None,
        description="with mode = 'async': number of replies per merge; smaller is more often, with less in each; "
        "default: a fifth of the clients, at least 2",
    )
    staleness_discount: float = Field(
        0.5,
        ge=0,
        le=100,
        description="with mode = 'async': exponent a of (1 + staleness)^-a, the share of an update that counts when "
        "its client started from a version that is so many merges old; 0 counts all in full",
    )
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients that take part in a round")
    on_bad_update: Literal["stop", "drop"] = Field(
        "stop", description="what to do with an update that is not finite: stop the run, or continue without it"
    )
    min_clients: Count = Field(1, description="minimum number of accepted updates per round; the run stops below it")
    deadline: Seconds | None = Field(
        None,
        description="seconds after which a round is closed without the clients that have not replied (async: after "
        "which a client's part is given up); default: none",
    )
    payload: Payload = Field(
        "float32",
        description="data type in which clients send updates; int8 in blocks of 256 with a scale, a quarter of the "
        "bytes",
    )
    error_feedback: bool = Field(
        True, description="add the quantisation error of an update to the client's next update"
    )
    broadcast_payload: Payload | None = Field(
        None,
        description="data type in which the server sends the projector; default: bfloat16, but float32 where payload "
        "is float32",
    )

    def replies_per_merge(self, clients: int) -> int:
        """Return how many replies an asynchronous server merges at a time.

        Args:
            clients: K.
        """
        return self.buffer_size or min(max(2, round(clients / 5)), clients)


class Training(Section):
    """A client's local training; centralized and local-only learners use the same."""

    batch_size: Count = Field(16, description="samples per client and step; the centralized method uses the same")
    learning_rate: LearningRate | None = Field(
        None,
        description="AdamW's peak learning rate for every method; default: worked out for each method from its steps "
        "per client (docs/methods.md)",
    )
    rate_factor: float = Field(
        1.0, gt=0, le=1e6, description="factor on every learning rate that is worked out because none is named"
    )
    schedule: Literal["run", "round"] = Field(
        "run", description="learning rate schedule: one cosine over all rounds, or one in every round"
    )
    warmup_ratio: Fraction = Field(0.03, description="share of the schedule's steps that warm up linearly")
    beta_1: Decay = Field(0.9, description="AdamW's decay of the first moment")
    beta_2: Decay = Field(0.99, description="AdamW's decay of the second moment")
    weight_decay: float = Field(0.0, ge=0, le=1000, description="AdamW's decoupled weight decay")
    max_gradient_norm: float = Field(
        1.0, gt=0, le=1e9, description="maximum gradient norm; larger gradients are clipped to it"
    )
    micro_batch: Count | None = Field(
        None,
        description="samples per forward pass, with gradients accumulated over a step; fewer take less memory; "
        "default: all of a step",
    )


class Evaluation(Section):
    """How the projector is evaluated."""

    every: Count = Field(1, description="rounds between evaluations; the last round is always evaluated")
    split: Literal["test", "validation"] = Field(
        "test",
        description="pairs to evaluate on: the held-out ones, or, for tuning, as many of the others (the embedded "
        "world has a validation set of its own)",
    )
    captions: int = Field(512, ge=1, le=10**8, description="number of held-out pairs for the caption loss")
    questions_per_kind: int = Field(
        64, ge=0, le=10**6, description="number of questions per kind, balanced over their answers"
    )
    questions: File | None = Field(
        None, description="JSONL file with questions about held-out pairs of your own data (docs/evaluation.md)"
    )
    samples: int = Field(8, ge=0, le=10_000, description="held-out images shown in the report with generated captions")
    sample_tokens: int = Field(40, ge=1, le=100_000, description="maximum tokens of a generated caption")


class Deployment(Section):
    """A federation between machines, run by `fedcmp serve`; `fedcmp train` only simulates its clients."""

    sites: list[SiteName] = Field(
        [],
        max_length=10**4,
        description="names of the sites that take part, in the order of their client numbers; each brings its own "
        "pairs, and its key is registered by `fedcmp keys add`",
    )
    edges: dict[SiteName, Annotated[list[SiteName], Field(min_length=1, max_length=10**4)]] = Field(
        {},
        description="edge servers: name of an edge -> the sites that connect to it; it sums their replies and sends "
        "one on; all other sites connect to the server itself",
    )
    start_seconds: Seconds | None = Field(
        None,
        description="seconds to wait for all sites before the first round begins with federation.min_clients of them; "
        "default: wait for all",
    )
    poll_seconds: Seconds = Field(
        60.0,
        description="seconds that one request to a site may take before the server asks again whether its reply is "
        "ready; lower values notice a reply earlier and take more requests",
    )
    judge: Literal["sites", "server", "none"] = Field(
        "sites",
        description="who measures the held-out loss: the sites on their own held-out pairs, of which they report sums; "
        "the server on the pairs of [data]; or nobody",
    )


class Method(Section):
    """What one method does differently."""

    learning_rate: LearningRate | None = Field(
        None, description="peak learning rate of this method; default: training.learning_rate"
    )
    aggregator: str | None = Field(None, description="server rule behind this name; default: the name itself")
    options: dict[str, Any] = Field({}, description="options of the server rule (docs/methods.md)")
    objective: str | None = Field(
        None, description="what clients minimise; default: the caption loss, or what the method's name stands for"
    )
    objective_options: dict[str, Any] = Field({}, description="options of the objective (docs/methods.md)")
    step: str | None = Field(
        None, description="how clients step along their gradients; default: adamw, or what the method's name stands for"
    )
    step_options: dict[str, Any] = Field({}, description="options of the step (docs/methods.md)")
