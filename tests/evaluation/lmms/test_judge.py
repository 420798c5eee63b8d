import hashlib

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS, JudgePrompt
from fedcmp.evaluation.lmms.judge import Judge, judge_from, judge_prompt_hash

from .real_formats import judge


def test_lmms_eval_is_told_by_variables(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    found = judge_from("http://user:pw@localhost:8000/v1/chat/completions", "m", "MY_KEY")
    assert found.variables() == {
        "API_TYPE": "openai",
        "OPENAI_API_URL": "http://user:pw@localhost:8000/v1",
        "OPENAI_API_KEY": "secret",
        "MODEL_VERSION": "m",
    }
    assert found.record("abc") == {"model": "m", "url": "http://localhost:8000/v1", "prompt_sha256": "abc"}
    monkeypatch.delenv("MY_KEY")
    assert found.variables()["OPENAI_API_KEY"] == "none"  # lmms-eval refuses an empty one


def test_half_a_judge_is_refused():
    assert judge_from(None, None) is None
    with pytest.raises(UserError, match="needs both"):
        judge_from("http://localhost/v1", None)
    with pytest.raises(UserError, match="give the API's base"):
        judge_from("localhost:8000", "m")
    with pytest.raises(UserError, match="give the API's base"):
        judge_from("http://localhost:port/v1", "m")


def test_a_judge_is_asked_once_beforehand_and_a_refusal_is_the_users_to_mend():
    with judge() as (url, asked):
        Judge(url, "m").check()
        (request,) = asked
        assert (request["path"], request["model"], request["key"]) == ("/v1/chat/completions", "m", "Bearer none")
        with pytest.raises(UserError, match=r"refused with HTTP 404; check the address, the key in OPENAI_API_KEY"):
            Judge(url + "/nowhere", "m").check()
    with pytest.raises(UserError, match="no judge answers there"):
        Judge(url, "m").check()


def test_the_prompt_is_read_without_running_its_module(fake):
    mm_vet = judge_prompt_hash(BENCHMARKS["mm-vet"].judge, fake.tasks)
    assert mm_vet == hashlib.sha256(b"Compare.").hexdigest()
    rule = judge_prompt_hash(BENCHMARKS["llava-bench"].judge, fake.tasks)
    assert rule == hashlib.sha256((fake.tasks / "llava-in-the-wild" / "rule.json").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="has no OTHER"):
        judge_prompt_hash(JudgePrompt("mmvet/utils.py", "OTHER"), fake.tasks)
    with pytest.raises(UserError, match="another version"):
        judge_prompt_hash(JudgePrompt("gone.py"), fake.tasks)
