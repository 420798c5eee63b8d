"""A generator of studies on disk with known means: the run files as the program writes them, without any training.

A run's caption loss is base + scenario's shift + WIGGLE[seed], the worst family's .25 more; over the seeds 1 to 5 the
wiggles of a method sum to zero, so that its mean over all seeds is base + shift.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3, 4, 5)
SUITES = ("mm-vet-world", "mmbench-world", "seed-world", "llava-bench-world", "pope-world", "mme-world", "mmvp-world")
# method -> (title, federated, family, caption loss on image clusters)
METHODS: dict[str, tuple[str, bool, str, float]] = {
    "fedavg": ("FedAvg", True, "baseline", 0.430),
    "fedavgm": ("FedAvgM", True, "baseline", 0.424),
    "diloco": ("DiLoCo", True, "baseline", 0.417),
    "ties": ("TIES", True, "baseline", 0.470),
    "fedadam": ("FedAdam", True, "baseline", 0.560),
    "fedcmp": ("Fed-CMP (as published)", True, "ours", 0.700),
    "shared-basis": ("Fed-CMP", True, "ours", 0.395),
    "centralized": ("Centralized (pooled data)", False, "reference", 0.285),
    "local": ("Local (each client alone)", False, "reference", 1.100),
}
SCENARIOS: dict[str, tuple[str, float]] = {
    "image": ("Image clusters", 0.0),
    "cross": ("Cross clusters", -0.004),
    "joint": ("Joint clusters", -0.008),
    "text": ("Text clusters", -0.012),
    "iid": ("IID", -0.030),
    "image-20": ("Image clusters, 20 clients", 0.060),
}
WIGGLE = {1: 0.004, 2: -0.003, 3: 0.001, 4: -0.004, 5: 0.002}
ORDERS = list(itertools.permutations(WIGGLE.values()))  # each method's own share: the same wiggles in another order
BLIND_LOSS, BLIND_WORST = 0.925, 1.248
# suite -> (blind score, noise, chance, gain per nat below the blind loss); mmvp gains nothing: not informative
SUITE_FACTS = {
    "mm-vet-world": (18.0, 1.0, 0.0, 40.0),
    "mmbench-world": (26.0, 1.2, 25.0, 60.0),
    "seed-world": (27.0, 1.1, 25.0, 55.0),
    "llava-bench-world": (22.0, 1.5, 0.0, 45.0),
    "pope-world": (50.0, 1.4, 50.0, 40.0),
    "mme-world": (640.0, 25.0, 600.0, 900.0),
    "mmvp-world": (33.0, 2.0, 25.0, 0.5),
}


def caption_loss(method: str, scenario: str, seed: int) -> float:
    """The final loss of a run: known means, part of the wiggle shared by all methods at a seed."""
    base, shift = METHODS[method][3], SCENARIOS[scenario][1]
    own = 0.2 * ORDERS[7 * list(METHODS).index(method) % len(ORDERS)][seed - 1]
    return base + shift + WIGGLE[seed] + own


def scores(loss: float, seed: int, method: str) -> dict[str, float]:
    """Suites' scores that follow the loss, with some noise of their own."""
    draw = random.Random(f"{method}-{seed}")
    return {
        name: round(blind + gain * (BLIND_LOSS - loss) + draw.gauss(0, 0.2 * noise), 3)
        for name, (blind, noise, _, gain) in SUITE_FACTS.items()
    }


def run_content(
    method: str, scenario: str, seed: int, *, rounds: int = 10, final: float | None = None
) -> dict[str, Any]:
    """The content of one run's file; `final` sets another caption loss."""
    loss = caption_loss(method, scenario, seed) if final is None else final
    draw = random.Random(f"{scenario}-{method}-{seed}")
    points = []
    for round_ in range(1, rounds + 1):
        last = round_ == rounds
        restless = 0.0 if last else abs(draw.gauss(0, 0.03 if method == "fedcmp" else 0.004))
        now = loss + (1.1 - loss) * math.exp(-0.8 * round_) * (not last) + restless
        points.append(
            {
                "round": round_,
                "caption_loss": now,
                "worst_family": "number",
                "worst_family_loss": now + 0.25,
                "family_losses": {"number": now + 0.25, "shapes": now - 0.1},
                "suites": scores(now, seed, method) if round_ % 5 == 0 or last else None,
            }
        )
    worst = loss + 0.25
    return {
        "format": 1,
        "hash": "0" * 64,
        "scenario": scenario,
        "method": method,
        "seed": seed,
        "federated": METHODS[method][1] if method in METHODS else True,
        "settings": {"learning_rate": 0.003, "aggregator": method, "options": {}, "objective": "plain"},
        "captions": 16000,
        "clients": 5,
        "rounds": rounds,
        "versions": {"fedcmp": "0.1.0", "torch": "2.13.0"},
        "training_seconds": 41.0 + seed,
        "rounds_evaluated": points,
        "final": {
            "caption_loss": loss,
            "worst_family": "number",
            "worst_family_loss": worst,
            "mean_loss": (loss + worst) / 2,
            "family_losses": {"number": worst},
            "suites": {
                name: {"score": score, "detail": {"accuracy": score}}
                for name, score in scores(loss, seed, method).items()
            },
        },
        "client_rounds": [],
        "round_diagnostics": [],
    }


def study_content(methods: Iterable[str], scenarios: Iterable[str], seeds: Iterable[int]) -> dict[str, Any]:
    """The content of study.json."""
    return {
        "format": 1,
        "name": "study",
        "recipe": {},
        "scenarios": {
            name: {"title": SCENARIOS[name][0], "clients": 5, "rounds": 10, "captions": 16000, "seeds": list(seeds)}
            for name in scenarios
        },
        "methods": {
            name: {"title": METHODS[name][0], "federated": METHODS[name][1], "family": METHODS[name][2]}
            for name in methods
        },
        "groups": {"main": {}},
    }


def write_json(path: Path, content: object) -> None:
    """Write one file, its folder with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def add_run(folder: Path, content: Mapping[str, Any]) -> None:
    """Write one run's file where it belongs."""
    write_json(folder / "runs" / content["scenario"] / content["method"] / f"seed-{content['seed']}.json", content)


def blind_content() -> dict[str, Any]:
    """The content of references/blind.json."""
    return {
        "suites": {
            name: {"score": score, "chance": chance, "noise": noise, "items": 400, "hash": "0"}
            for name, (score, noise, chance, _) in SUITE_FACTS.items()
        },
        "caption_loss": BLIND_LOSS,
        "worst_family_loss": BLIND_WORST,
    }


def scenario_content(scenario: str, seed: int, *, clients: int = 5, points: int = 400) -> dict[str, Any]:
    """The content of scenarios/SCENARIO/seed-S.json: clients in clouds of their own."""
    draw = random.Random(f"{scenario}-{seed}")
    holders = [draw.randrange(clients) for _ in range(points)]
    angle = 2 * math.pi / clients
    return {
        "sizes": [3000 + 100 * client for client in range(clients)],
        "heterogeneity": {"family_divergence": round(0.4 + SCENARIOS[scenario][1] * 5 + 0.001 * seed, 4)},
        "map": {
            "metric": scenario,
            "x": [round(20 * math.cos(angle * holder) + draw.gauss(0, 5), 2) for holder in holders],
            "y": [round(20 * math.sin(angle * holder) + draw.gauss(0, 5), 2) for holder in holders],
            "client": holders,
        },
    }


def tuning_content(method: str) -> dict[str, Any]:
    """The content of tuning/METHOD.json: four rates, the second one best."""
    rates = {0.001: 0.62, 0.003: 0.58, 0.01: 0.6, 0.03: 0.71}
    return {
        "method": method,
        "scenario": "image",
        "seed": 100,
        "trials": [
            {"settings": {"learning_rate": rate, "options": {}}, "captions": 4000, "caption_loss": loss}
            for rate, loss in rates.items()
        ],
        "chosen": {"learning_rate": 0.003, "options": {}},
    }


ARMS = {
    "arm-none": ("None", {"CSC": False, "RWF": False, "OPM": False}, 0.430),
    "arm-csc": ("CSC", {"CSC": True, "RWF": False, "OPM": False}, 0.430),
    "arm-rwf": ("RWF", {"CSC": False, "RWF": True, "OPM": False}, 0.420),
    "arm-all": ("All", {"CSC": True, "RWF": True, "OPM": True}, 0.700),
}


def add_arms(folder: Path, seeds: Iterable[int] = SEEDS) -> None:
    """Add the arms of table 3, and one of table 4 that is shared with it, to a study's files."""
    plan = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    for name, (title, arms, loss) in ARMS.items():
        plan["methods"][name] = {"title": title, "federated": True, "family": "ablation", "table": "3", "arms": arms}
        for seed in seeds:
            add_run(folder, run_content(name, "image", seed, final=loss + WIGGLE[seed]))
    both = {"3": ARMS["arm-rwf"][1], "4": {"magnitude": True, "quality": True, "gamma": 1}}
    plan["methods"]["arm-rwf"].update(table=["3", "4"], arms=both)
    gamma = {"title": "gamma 2", "federated": True, "family": "ablation", "table": "4"}
    plan["methods"]["arm-gamma"] = {**gamma, "arms": {"magnitude": True, "quality": True, "gamma": 2}}
    for seed in seeds:
        add_run(folder, run_content("arm-gamma", "image", seed, final=0.425 + 2 * WIGGLE[seed]))
    write_json(folder / "study.json", plan)


def write_study(
    folder: Path,
    *,
    methods: Iterable[str] = tuple(METHODS),
    scenarios: Iterable[str] = tuple(SCENARIOS),
    seeds: Iterable[int] = SEEDS,
    change: Callable[[dict[str, Any]], Mapping[str, Any] | None] = lambda content: content,
    extras: bool = True,
) -> Path:
    """Write a whole study; `change` edits each run, or drops it by returning None."""
    methods, scenarios, seeds = tuple(methods), tuple(scenarios), tuple(seeds)
    write_json(folder / "study.json", study_content(methods, scenarios, seeds))
    for scenario in scenarios:
        for method in methods:
            for seed in seeds:
                kept = change(run_content(method, scenario, seed))
                if kept is not None:
                    add_run(folder, kept)
    write_json(folder / "references" / "blind.json", blind_content())
    if extras:
        for scenario in scenarios:
            for seed in seeds:
                write_json(folder / "scenarios" / scenario / f"seed-{seed}.json", scenario_content(scenario, seed))
        for method in methods:
            write_json(folder / "tuning" / f"{method}.json", tuning_content(method))
    return folder
