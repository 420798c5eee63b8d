"""Names that are needed where nothing is loaded: methods without a server, and in which forms numbers are kept or sent.

The references are methods without a server, between which every federated method is expected to end. With another step
than AdamW's they are called REFERENCE-with-STEP. They are named here because a run's record must say whether its method
is federated, and records are read without torch; a recipe is checked without it too.
"""

from typing import Literal

FeatureDtype = Literal["float32", "bfloat16", "float16", "float8_e4m3", "int8"]
Payload = Literal["float32", "bfloat16", "int8"]

LARGE_BATCH = "centralized-large-batch"  # centralized with K clients' worth of pairs per step
NOT_FEDERATED: dict[str, str] = {
    "local": "each client alone; judged is the mean over the clients' own projectors",
    "centralized": "one learner over the union of the clients' pairs, a client's batch size: the upper reference",
    LARGE_BATCH: "centralized with the clients' batches put together: the steps of one client",
}


_WITH = "-with-"


def reference_of(method: str) -> str | None:
    """Return the reference that a method is: its own name, or REFERENCE-with-ANYTHING; None for a federated one.

    "centralized-with-canonical" is the centralized learner with another step, say.
    """
    base, joint, rest = method.partition(_WITH)
    return base if base in NOT_FEDERATED and bool(joint) == bool(rest) else None


def step_named_in(method: str) -> str | None:
    """Return what stands behind "-with-" in a reference's name: the step that it takes unless a recipe names one."""
    return method.partition(_WITH)[2] or None if reference_of(method) else None


def is_federated(method: str) -> bool:
    """Return whether a server merges in this method: every name but those of the references."""
    return reference_of(method) is None
