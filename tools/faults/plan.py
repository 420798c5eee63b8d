"""Faults, and seeded schedules of them."""

import random
from dataclasses import dataclass

from tools.faults.moments import SERVER, SITE
from tools.faults.places import SITES, Setting

HOUR = 3600.0
METHODS = (
    ("fedavg", "float32"),
    ("shared-basis", "float32"),
    ("moon", "float32"),
    ("moon", "int8"),
    ("fedavg", "int8"),
)

SERVER_KILLED, SITE_KILLED = "server killed", "site killed"
MESSAGE, SILENT, CUT = "message", "site silent", "link cut"
TORN, DISK, CLOCK = "torn file", "disk full", "clock an hour off"
OTHER_ROUND = "answered for another round"
FATES = (
    "lost",
    "answer lost",
    "answered twice",
    "delivered twice",
    "delivered again later",
    "late",
    "answered late",
    OTHER_ROUND,
    "answer torn",
    "answer of other bytes",
)
# file -> whose it is, and a moment at which it is there
OF_SERVER = {
    "newest checkpoint": "a checkpoint is written",
    "waiting reply": "a reply is kept",
    "records": "a checkpoint is written",
    "register": "a round is open",
}
OF_SITE = {
    "state": "the reply is kept",
    "middle of a part": "the middle of a part is saved",
    "last reply": "the reply is kept",
    "recipe": "a step is taken",
    "place": "a step is taken",
    "ticket": "a step is taken",
    "prepared pairs": "a step is taken",
    "features": "a step is taken",
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: one of the above.
        site: whose; "" is the server.
        what: the moment of a kill ("" is any), a message's fate, the file that is torn.
        message: which message meets its fate.
        count: at the how many-th time.
        share: when, as a share of the seconds of a run without faults; where no moment says it.
        lasts: how long it lasts, or how late a message is; as a share of the same.
        off: seconds by which a clock is off.
    """

    kind: str
    site: str = ""
    what: str = ""
    message: str = ""
    count: int = 1
    share: float = 0.0
    lasts: float = 0.0
    off: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        whose = f"{self.site} " if self.site else ""
        said = [part for part in (self.what, self.message and f"{self.message} {self.count}") if part]
        return f"{whose}{self.kind}{f' ({chr(44).join(said)})' if said else ''}"


@dataclass(frozen=True)
class Plan:
    """A schedule: what is trained, and what goes wrong meanwhile."""

    name: str
    setting: Setting
    faults: tuple[Fault, ...]

    @property
    def judged_by_all(self) -> bool:
        """Whether no site may be left out of judging: by a deadline, which holds there too, or for its full disk."""
        return self.setting.deadline is None and not any(fault.kind == DISK and fault.site for fault in self.faults)


def draw_plan(seed: int, number: int, *, disks: bool) -> Plan:
    """Draw a schedule.

    Args:
        seed: of the set of schedules.
        number: of the schedule in it.
        disks: whether a disk may be full.
    """
    draw = random.Random(f"{seed}/{number}")
    kinds = [SERVER_KILLED, SITE_KILLED, MESSAGE, TORN, CUT, SILENT, CLOCK, *([DISK] if disks else [])]
    weights = [5, 5, 6, 3, 2, 2, 1, *([1] if disks else [])]
    method, payload = draw.choice(METHODS)
    if draw.random() < 0.35:
        setting = Setting(method, payload, deadline=draw.uniform(0.15, 0.4), min_clients=2)
    else:
        setting = Setting(method, payload)
    # the first kind goes round, so that every kind is there, however few schedules are drawn
    chosen = [kinds[number % len(kinds)], *draw.choices(kinds, weights, k=draw.randint(1, 3))]
    once = [kind for index, kind in enumerate(chosen) if kind not in (DISK, CLOCK) or kind not in chosen[:index]]
    return Plan(f"{seed}/{number}", setting, tuple(_draw_fault(kind, draw) for kind in once))


def _draw_fault(kind: str, draw: random.Random) -> Fault:
    site = draw.choice(SITES)
    share = draw.uniform(0.02, 1.1)
    match kind:
        case "server killed":
            if draw.random() < 0.3:
                return Fault(kind, share=share)
            moment = draw.choice(list(SERVER))
            return Fault(kind, what=moment, count=draw.randint(1, SERVER[moment].most))
        case "site killed":
            if draw.random() < 0.3:
                return Fault(kind, site, share=share)
            moment = draw.choice(list(SITE))
            return Fault(kind, site, what=moment, count=draw.randint(1, SITE[moment].most))
        case "message":
            message = draw.choices(
                ["training", "judging", "collecting", "invitation", "placement", "handover"], [6, 2, 1, 1, 1, 1]
            )[0]
            count = draw.randint(1, 3 if message in ("training", "judging") else 1)
            fate = draw.choice(FATES)
            if fate == OTHER_ROUND:  # of which there must be one
                message, count = "training", draw.randint(2, 3)
            return Fault(kind, site, fate, message, count, lasts=draw.uniform(0.05, 1.0))
        case "torn file":
            if draw.random() < 0.5:
                return Fault(kind, what=draw.choice(list(OF_SERVER)), count=draw.randint(1, 2))
            return Fault(kind, site, what=draw.choice(list(OF_SITE)), count=draw.randint(1, 2))
        case "clock an hour off":
            whose = draw.choice(["", *SITES])
            return Fault(kind, whose, share=draw.choice([0.0, share]), off=draw.choice([-HOUR, HOUR]))
        case "disk full":
            return Fault(kind, draw.choice(["", *SITES]), share=share, lasts=draw.uniform(0.1, 0.8))
        case _:  # a link cut, or a site that says nothing
            return Fault(kind, site, share=share, lasts=draw.uniform(0.1, 1.0))
