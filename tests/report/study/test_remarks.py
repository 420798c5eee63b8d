from fedcmp.report.study import Results, load_study
from fedcmp.report.study.remarks import facts, pointers, warnings

from .fakes import write_study


def study_where(folder, change, **more):
    return Results.of(load_study(write_study(folder, scenarios=("image",), change=change, extras=False, **more)))


def test_facts_say_what_ran(results):
    found = dict(facts(results))
    assert found["Scenarios"] == "Image clusters; Text clusters; IID; Image clusters, 20 clients"
    assert (found["Methods"], found["Clients"], found["Seeds"], found["Runs"]) == ("9", "5", "5", "205")
    assert found["Captions"] == "16\u202f000"
    assert (found["Federated"], found["Tuned on"]) == ("7 in 4 scenarios", "Image clusters")
    assert found["Training"] == f"{sum(41 + seed for seed in range(1, 6)) * 41 / 3600:.1f} h"


def test_a_whole_study_has_nothing_to_warn_of(results):
    assert warnings(results) == []


def test_missing_seeds_are_counted(tmp_path):
    def drop(content):
        return None if content["seed"] > 2 and content["method"] == "ties" else content

    assert warnings(study_where(tmp_path, drop)) == [
        "Not every seed has run: TIES 2 of 5 seeds (Image clusters). The tables say how many seeds each row has."
    ]


def test_failed_runs_say_why(tmp_path):
    def fail(content):
        if (content["method"], content["seed"]) == ("ties", 2):
            kept = {key: content[key] for key in ("scenario", "method", "seed", "settings")}
            return kept | {"failed": "round 3:\nloss is NaN " + 300 * "x"}
        return content

    (told,) = warnings(study_where(tmp_path, fail, methods=("fedavg", "ties")))
    assert told.startswith("1 run has failed and counts as diverged: TIES. The first says: round 3: loss is NaN xxx")
    assert len(told) < 300


def test_one_seed_and_mixed_settings_are_said(tmp_path):
    def mix(content):
        content["captions"] = 8000 if content["method"] == "ties" else 16000
        return content

    told = warnings(study_where(tmp_path / "a", mix, methods=("fedavg", "ties"), seeds=(1,)))
    assert told == [
        "One seed only, so no error bars and no conclusion: Image clusters.",
        "Image clusters: not all methods had the same number of captions (8000, 16000).",
    ]

    def retune(content):
        content["settings"]["learning_rate"] = 0.001 * content["seed"]
        return content

    told = warnings(study_where(tmp_path / "b", retune, methods=("fedavg",), seeds=(1, 2)))
    assert told == ["FedAvg ran with different settings at different seeds (Image clusters)."]


def test_pointers_name_dull_suites_and_the_hardest_family(results):
    told = [pointer.text for pointer in pointers(results)]
    assert told == [
        "Not informative in some scenario, and left out of the mean ranks there: mmvp-world.",
        "Image clusters: the hardest family for Fed-CMP is “number” (0.645 nats per token).",
    ]
