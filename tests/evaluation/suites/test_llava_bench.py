from collections import Counter

from fedcmp.evaluation.suites.llava_bench import COMPLEX, CONVERSATION, DETAIL
from fedcmp.world.scene import FAMILIES
from fedcmp.world.words import STYLES
from tests.evaluation.suites.shared import built


def test_three_categories():
    suite, _ = built("llava-bench-world")
    counts = Counter(item.category for item in suite.items)
    assert counts == {"conversation": CONVERSATION, "detail": DETAIL, "complex": COMPLEX}


def test_details_are_captions_of_all_families_with_their_style():
    suite, _ = built("llava-bench-world")
    details = [item for item in suite.items if item.category == "detail"]
    shown = [suite.pictures[item.picture] for item in details]
    assert Counter(picture.content.family for picture in shown) == dict.fromkeys(FAMILIES, DETAIL // len(FAMILIES))
    for item, picture in zip(details, shown, strict=True):
        assert item.prompt == ""
        assert all(f"style {STYLES[picture.style]}" in reference for reference in item.references)
