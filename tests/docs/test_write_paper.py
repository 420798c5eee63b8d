"""results/paper.md is what its command writes from the paper's tables and the published study."""

from docs.write_paper import RESULTS, page


def test_the_page_is_up_to_date():
    assert (RESULTS / "paper.md").read_text(encoding="utf-8") == page(RESULTS / "study.jsonl")
