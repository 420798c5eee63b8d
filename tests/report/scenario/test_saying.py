import pytest

from fedcmp.report.scenario.records import Shown
from fedcmp.report.scenario.saying import facts as told_facts
from fedcmp.report.scenario.saying import pointers, sharpest_metric, sharpest_scenario, verdict, warnings

from .fakes import METRICS, facts, four, scenario


def said(content):
    return ["".join(phrase.text for phrase in phrases) for phrases in verdict(Shown.of(content))]


def test_each_scenario_is_answered_in_words():
    assert said(four()) == [
        "Each of the 4 scenarios is sharpest in its own metric.",
        *(
            f"{name}: yes, silhouette 0.300 by {name}, then 0.100 by {'text' if name == 'image' else 'image'}. "
            f"By {name}, no other scenario is sharper."
            for name in METRICS
        ),
    ]


def test_a_scenario_that_is_sharper_elsewhere_is_named_with_its_numbers():
    by_text = scenario("joint", metric="joint", silhouette={"image": 0.1, "text": 0.254, "joint": 0.215, "cross": 0.1})
    better = scenario("text", metric="text", silhouette={"image": 0.0, "text": 0.3, "joint": 0.22, "cross": 0.1})
    assert said(facts(by_text, better)) == [
        "text is sharpest in its own metric, the other one is not.",
        "joint: no, silhouette 0.215 by joint, but 0.254 by text. By joint, scenario text is sharper (0.220).",
        "text: yes, silhouette 0.300 by text, then 0.220 by joint. By text, no other scenario is sharper.",
    ]


def test_one_scenario_alone_is_answered_in_one_sentence():
    (told,) = said(facts(scenario("mine", metric="cross")))
    assert told == "mine is sharpest in its own metric: silhouette 0.300 by cross, then 0.100 by image."
    (told,) = said(facts(scenario("mine", metric="text", silhouette={**dict.fromkeys(METRICS, 0.2), "image": 0.25})))
    assert told == "mine is not sharpest in its own metric: silhouette 0.200 by text, but 0.250 by image."
    (told,) = said(facts(scenario("even", metric=None)))
    assert told == "even: cut by no similarity, so it has no metric of its own."
    (told,) = said(facts(scenario("share", clients=1, silhouette=dict.fromkeys(METRICS))))
    assert told == "share: nothing to compare: a silhouette needs two clients with sampled pairs."


@pytest.mark.parametrize(
    ("metrics", "sharp", "head"),
    [
        (("image", None), (True, None), "image is sharpest in its own metric."),
        (
            ("image", "text", None),
            (True, True, None),
            "Each of the 2 scenarios that were cut by a similarity is sharpest",
        ),
        (("image", "text", "joint"), (True, False, False), "image is sharpest in its own metric, the other 2 are not."),
        (("image", "text", "joint"), (True, True, False), "2 of 3 scenarios are sharpest in their own metrics."),
        (("image", "text"), (False, False), "None of 2 scenarios is sharpest in its own metric."),
        ((None, None), (None, None), "No scenario has a metric of its own to be judged by."),
    ],
)
def test_the_first_sentence_counts(metrics, sharp, head):
    def values(metric, yes):
        return {m: 0.3 if (m == metric) == bool(yes) else 0.1 for m in METRICS}

    made = [
        scenario(metric or f"iid{number}", metric=metric, silhouette=values(metric, yes))
        for number, (metric, yes) in enumerate(zip(metrics, sharp, strict=True))
    ]
    assert said(facts(*made))[0].startswith(head)


def test_the_own_metric_wins_a_tie():
    shown = Shown.of(facts(scenario("a", metric="text", silhouette=dict.fromkeys(METRICS, 0.2)), scenario("b")))
    assert sharpest_metric(shown.scenarios[0]) == "text"
    tied = [scenario(name, metric=name, silhouette=dict.fromkeys(METRICS, 0.2)) for name in METRICS]
    assert [sharpest_scenario(Shown.of(facts(*tied)), metric).name for metric in METRICS] == list(METRICS)


def test_what_was_looked_at():
    assert told_facts(Shown.of(facts(scenario(), scenario("b", clients=5)))) == [
        ("Collection", "pairs.json, embedded by world"),
        ("Pairs", "1\u202f000"),
        ("Clients", "3 / 5"),
        ("Sample", "60"),
        ("Seed", "0"),
    ]


def test_missing_images_are_warned_of():
    assert warnings(Shown.of(facts())) == []
    assert warnings(Shown.of(facts(missing="x.json: gone"))) == ["No images and no words: x.json: gone"]


def test_pointers_name_the_extremes():
    texts = [pointer.text for pointer in pointers(Shown.of(facts(scenario("a"), scenario("b", clients=5))))]
    assert texts == [
        "Largest client over smallest: 5.0 in b.",
        "How much more alike images of one client are than images of two: 0.300 in a.",
        "Every scenario in all four metrics:",
    ]
    alone = scenario("share", clients=1, silhouette=dict.fromkeys(METRICS))
    assert pointers(Shown.of(facts(alone, maps=False))) == []
