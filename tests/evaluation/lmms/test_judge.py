import hashlib

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS, JudgePrompt
from fedcmp.evaluation.lmms.judge import judge_from, judge_prompt_hash


def test_lmms_eval_is_told_by_variables(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    judge = judge_from("http://user:pw@localhost:8000/v1/chat/completions", "m", "MY_KEY")
    assert judge.variables() == {
        "API_TYPE": "openai",
        "OPENAI_API_URL": "http://user:pw@localhost:8000/v1",
        "OPENAI_API_KEY": "secret",
        "MODEL_VERSION": "m",
    }
    assert judge.record("abc") == {"model": "m", "url": "http://localhost:8000/v1", "prompt_sha256": "abc"}
    monkeypatch.delenv("MY_KEY")
    assert judge.variables()["OPENAI_API_KEY"] == "none"  # lmms-eval refuses an empty one


def test_half_a_judge_is_refused():
    assert judge_from(None, None) is None
    with pytest.raises(UserError, match="needs both"):
        judge_from("http://localhost/v1", None)
    with pytest.raises(UserError, match="give the API's base"):
        judge_from("localhost:8000", "m")


def test_the_prompt_is_read_without_running_its_module(fake):
    mm_vet = judge_prompt_hash(BENCHMARKS["mm-vet"].judge, fake.tasks)
    assert mm_vet == hashlib.sha256(b"Compare.").hexdigest()
    rule = judge_prompt_hash(BENCHMARKS["llava-bench"].judge, fake.tasks)
    assert rule == hashlib.sha256((fake.tasks / "llava-in-the-wild" / "rule.json").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="has no OTHER"):
        judge_prompt_hash(JudgePrompt("mmvet/utils.py", "OTHER"), fake.tasks)
    with pytest.raises(UserError, match="another version"):
        judge_prompt_hash(JudgePrompt("gone.py"), fake.tasks)
