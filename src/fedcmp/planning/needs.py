"""What a run needs, from sizes alone: bytes of memory, of disk, on the wire. Pure functions; docs/guide.md explains.

Exact: frozen weights, projectors, the feature store, the wire. Estimated from above: activations (every caption as long
as data.max_caption_tokens), the process itself, what the server keeps.
Shapes: P patches, V vision width, D text width, T caption tokens; a weight is (out, in).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from fedcmp.aggregation import labels
from fedcmp.config.methods import Chosen
from fedcmp.model.scaling import PIXEL_BYTES, most_pixels
from fedcmp.model.sizes import LanguageSize, VisionSize
from fedcmp.wire.payload import Forms, forms, payload_bytes

ITEM = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "auto": 4}  # auto: at most
PROCESS = 900 * 10**6  # Python with torch, transformers and what writes the report, its libraries' pages included
WORKER_PROCESS = 520 * 10**6  # without what only the main process loads
CUDA_PROCESS = 600 * 10**6  # context and kernels on the GPU
MAIN_PAIR, WORKER_PAIR = 1500, 400  # bytes per pair: captions, names, tokens
ENCODED, JUDGED, ASKED = 64, 64, 128  # images, captions and questions per pass of the encoder and of the evaluation
# a learner's projector-shaped tensors: start, parameters, gradients twice, moments twice, and what is sent of them
LEARNER_COPIES = 10
CLIENT_STATES = 3  # a client keeps its state of two earlier rounds while it writes the next
SERVER_COPIES = 8  # float64 sums and memory of one rule
SUM_GRAMS = ("shared-basis", "regmean", "wudi")  # rules whose sums hold a Gram matrix per layer
APART_COPIES = 2  # a learner without a server: what it learned, and the answer that replaces it
LAUNCHER = 300 * 10**6  # torchrun itself
CHAT_TOKENS = 256  # around image and caption: a system prompt, roles, the instruction
Shape = tuple[int, ...]
FLOAT32 = forms("float32")
KEEPS_A_PROJECTOR = ("moon", "scaffold")  # objectives that remember one for every client


def tensor_bytes(shape: Shape, dtype: str = "float32") -> int:
    """Return the bytes of one tensor, in memory and on the wire alike."""
    return prod(shape) * ITEM[dtype]


def all_bytes(shapes: Mapping[str, Shape], dtype: str = "float32") -> int:
    """Return the bytes of named tensors."""
    return sum(tensor_bytes(shape, dtype) for shape in shapes.values())


@dataclass(frozen=True)
class Wire:
    """What one client and the server exchange in a round.

    Attributes:
        down: bytes to the client.
        up: bytes to the server.
    """

    down: int
    up: int

    def of(self, clients: int) -> int:
        """Return the bytes of a round with so many clients, both ways."""
        return clients * (self.down + self.up)


def wire(chosen: Chosen, projector: Mapping[str, Shape], sent: Forms = FLOAT32) -> Wire:
    """Return the bytes of a client's round, its first (an opening round) excepted, where fewer may come down.

    Args:
        chosen: server rule, local objective and step.
        projector: tensor name -> shape.
        sent: in which form each part travels.
    """
    one, rule = list(projector.values()), chosen.create_aggregator()
    beside_down = [shape for label in rule.sends for shape in labelled_shapes(label, projector)]
    beside_up = [shape for label in rule.extras for shape in labelled_shapes(label, projector)]
    if "second_moment" in rule.needs:
        beside_up += one
    return Wire(
        down=payload_bytes(one, sent.state) + payload_bytes(beside_down, "float32"),
        up=payload_bytes(one, sent.update) + payload_bytes(beside_up, sent.extra),
    )


def labelled_shapes(label: str, projector: Mapping[str, Shape]) -> list[Shape]:
    """Return the shapes of what travels under a label besides the trained tensors; of an unknown one, as these."""
    if label in (labels.BASIS, labels.GRAM, labels.INPUT_GRAM):
        return _grams(projector)
    if label == labels.OUTPUT_GRAM:
        return [(outputs, outputs) for outputs, _ in _canonical(projector)]
    if label == labels.SECOND_MOMENT:
        return _canonical(projector)
    if label in (labels.MOMENTUM_CONTROL, labels.MOMENTUM_CHANGE, labels.MUON_MOMENTUM):
        return [shape for shape in projector.values() if len(shape) == 2]
    if label == labels.STRETCH:
        return [() for _ in _grams(projector)]
    if label in (labels.PATH, labels.ADAM_AGE):
        return [()]
    return list(projector.values())


def labelled_bytes(wanted: Collection[str], projector: Mapping[str, Shape], dtype: str) -> int:
    """Return the bytes of what goes by some labels."""
    return sum(tensor_bytes(shape, dtype) for label in wanted for shape in labelled_shapes(label, projector))


def step_bytes(step: str, projector: Mapping[str, Shape]) -> int:
    """Return the bytes that a step holds of one learner beyond what AdamW does, from above: tables, and its work."""
    grams = sum(tensor_bytes(shape) for shape in _grams(projector))
    squares = grams + labelled_bytes([labels.OUTPUT_GRAM], projector, "float32")
    one = all_bytes(projector)
    own = {
        "soap": 5 * squares,  # second moments, bases, eigenvectors in float64
        "fedpac-soap": 5 * squares + 2 * one,
        "foof": 6 * grams,  # second moments, and a factor in float64
        "newton-muon": 6 * grams,
        "fedmuon": 3 * one,
        "fedmuon-liu": 2 * one,
        "fedadamw": 2 * one,
    }
    return own.get(step, 0)


def kept_by_step(chosen: Chosen, projector: Mapping[str, Shape], *, apart: bool) -> int:
    """Return the bytes that a step leaves with a client between two rounds, beyond AdamW's where there is no server.

    Args:
        chosen: the step, with its options.
        projector: tensor name -> shape.
        apart: whether there is no server, so that learners keep all.
    """
    grams = sum(tensor_bytes(shape) for shape in _grams(projector))
    step = chosen.step
    if step == "fedmuon":
        return labelled_bytes([labels.MOMENTUM_CHANGE], projector, "float32")
    if step == "canonical" and chosen.step_options.get("basis", "shared") in ("own", "random"):
        return 2 * grams if apart else grams
    if step == "soap" and apart:
        return 2 * (grams + labelled_bytes([labels.OUTPUT_GRAM], projector, "float32"))
    return 0


def _canonical(projector: Mapping[str, Shape]) -> list[Shape]:
    """Return the shapes of matrices with their bias as one more column."""
    return [(shape[0], shape[1] + 1) for shape in projector.values() if len(shape) == 2]


def _grams(projector: Mapping[str, Shape]) -> list[Shape]:
    """Return one square matrix per layer, over its inputs and the one for the bias."""
    return [(inputs, inputs) for _, inputs in _canonical(projector)]


def frozen_bytes(language: LanguageSize, item: int, precision: str, *, native_float8: bool) -> int:
    """Return the bytes of the LLM's weights, as they are while it trains.

    Args:
        language: the LLM.
        item: bytes of one number of its dtype.
        precision: model.frozen_precision; of "float8" two copies are kept of every weight but the input embeddings':
            from above, for the output layer has only one.
        native_float8: whether a copy takes 1 byte, or 4 where FP8 is emulated.
    """
    loaded = language.parameters * item
    if precision == "same":
        return loaded
    embeddings = language.vocabulary * language.width
    copies = 2 * (1 if native_float8 else 4)
    return max(loaded, embeddings * item + (language.parameters - embeddings) * copies)


def activation_bytes(language: LanguageSize, *, tokens: int, captions: int, item: int) -> int:
    """Return the bytes that a sample's pass through a frozen LLM keeps for the gradient with respect to its input.

    Frozen linear layers keep nothing. A block keeps two norms' inputs in float32, queries, keys, values and the
    attention's output, and three inner MLP tensors.

    Args:
        language: the LLM.
        tokens: of the whole sequence.
        captions: of them with a loss, whose logits are all held; 0 leaves logits out.
        item: bytes of one number.
    """
    block = 2 * 4 * language.width + item * (4 * language.queries + 3 * language.inner)
    passing = 4 * (language.width + language.inner) * max(item, 4)  # of one block while it is computed
    return tokens * (language.layers * block + passing) + logit_bytes(language, rows=captions, item=item)


def logit_bytes(language: LanguageSize, *, rows: int, item: int) -> int:
    """Return the bytes of the logits of so many caption tokens: the output layer's own, and float32 twice."""
    return rows * language.vocabulary * (item + 2 * 4)


def projector_activation_bytes(vision: VisionSize, text_width: int) -> int:
    """Return the bytes that a sample keeps in the projector: features, the layer before and after GELU, the result."""
    return tensor_bytes((vision.patches, 2 * vision.width + 4 * text_width))


def encoding_bytes(vision: VisionSize, *, images: int, item: int) -> int:
    """Return the bytes that the encoder holds for a batch, without gradients: one block's tensors and the result."""
    tokens = vision.patches + 1
    block = tokens * (8 * vision.width + 2 * vision.inner) * item
    return images * (block + tensor_bytes((vision.patches, 2 * vision.width)))


def scaled_images_bytes(side: int, *, threads: int) -> int:
    """What a user's own images take at the most while they are scaled to the encoder's side, a few at a time."""
    return threads * PIXEL_BYTES * most_pixels(side)


def learner_bytes(projector: Mapping[str, Shape], *, canonical: bool) -> int:
    """Return the bytes of one learner's projector, its gradients, AdamW's state and what is sent."""
    grams = sum(tensor_bytes(shape) for shape in _grams(projector)) if canonical else 0
    return LEARNER_COPIES * all_bytes(projector) + 3 * grams


def server_bytes(projector: Mapping[str, Shape], *, canonical: bool, kept: Collection[str] = ()) -> int:
    """Return the bytes of one rule's sums and memory in float64, with those of the labels that its services keep."""
    grams = sum(tensor_bytes(shape, "float64") for shape in _grams(projector)) if canonical else 0
    served = labelled_bytes(kept, projector, "float64")
    return SERVER_COPIES * all_bytes(projector, "float64") + 6 * grams + 3 * served


def checkpoint_bytes(
    projector: Mapping[str, Shape], *, learners: int, canonical: bool, apart: bool, kept: Collection[str] = ()
) -> int:
    """Return the bytes of one checkpoint, at the most: the trained tensors, and what the rule remembers.

    Args:
        projector: tensor name -> shape.
        learners: whose projectors are kept: 1 with a server.
        canonical: whether the rule keeps its space.
        apart: whether the learners have no server, hence no rule.
        kept: labels of what its services keep.
    """
    one = all_bytes(projector)
    if apart:
        return learners * one
    grams = sum(tensor_bytes(shape, "float64") for shape in _grams(projector)) if canonical else 0
    return one + 2 * all_bytes(projector, "float64") + 2 * grams + labelled_bytes(kept, projector, "float64")


def client_folder_bytes(projector: Mapping[str, Shape], *, kept: int) -> int:
    """Return the bytes that one client keeps of its last rounds: `kept` projectors of each (client_folder.py)."""
    return CLIENT_STATES * kept * all_bytes(projector)
