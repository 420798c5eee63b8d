"""`fedcmp evaluate` without a suite: a table for people, JSON for machines, progress on stderr."""

import json


def test_a_table_for_people_and_json_for_machines(runs, fedcmp):
    more = ("-o", "evaluation.questions_per_kind=1")
    code, out, err = fedcmp("evaluate", runs / "local", "--json", *more)
    assert code == 0, err
    figures = json.loads(out)
    assert list(figures) == ["round", "client-0", "client-1", "blind"]
    assert err.startswith(f"{runs}/local: loading the model and the held-out pairs ...\n")
    asked = sum(figures["blind"]["questions_by_kind"].values())
    units = 3 * (16 + asked)
    assert f"captions and questions: {units} of {units}" in err

    code, out, err = fedcmp("evaluate", runs / "local", *more)
    assert code == 0, err
    words = " ".join(out.split())
    assert f"{runs}/local, after round 1" in words
    assert "Caption loss (nats/token)" in words
    for who, name in (("client-0", "client-0"), ("blind", "blind (same LLM, no image)")):
        (line,) = [line for line in out.splitlines() if name in line]
        assert f" {figures[who]['caption_loss']:.3f} " in line
        assert f" {figures[who]['worst_group_loss']:.3f} group “{figures[who]['worst_group']}” " in line
        assert f" {100 * figures[who]['question_accuracy']:.1f} " in line
    assert f"16 held-out captions, {asked} questions." in words


def test_json_is_not_the_suites_form(runs, tmp_path, fedcmp):
    code, _, err = fedcmp("evaluate", runs / "fedavg", "--json", "--suite", "llava7", "--datasets", tmp_path)
    assert code == 2
    assert "--json: not with --suite" in err


def test_an_export_says_what_it_does(runs, tmp_path, fedcmp):
    code, out, err = fedcmp("export", runs / "fedavg", tmp_path / "out")
    assert code == 0, err
    assert out == f"exported: {tmp_path / 'out'}\n"
    assert [line.partition(" ")[0] for line in err.splitlines()] == [f"{runs}/fedavg:", "loading", "writing"]
