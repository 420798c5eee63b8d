import pytest

from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL, load

CLIENTS = """
[data]
format = "llava"
{}
[[data.clients]]
name = "a"
pairs = "a.json"
[scenario]
kind = "given"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "[federation]\nround = 3\n", r"federation\.round: unknown key; did you mean rounds\?"),
        (MINIMAL + "[fedration]\nrounds = 3\n", r"fedration: unknown key; did you mean federation\?"),
        (MINIMAL + "[federation]\nrounds = 0\n", r"federation\.rounds = 0: must be at least 1"),
        (MINIMAL + '[federation]\nrounds = "many"\n', r"federation\.rounds = 'many': must be a valid integer"),
        (MINIMAL + '[run]\nmethods = ["fedavgg"]\n', r"no method is named 'fedavgg'; did you mean fedavg\?"),
        (MINIMAL + '[run]\nmethods = ["fedavg", "fedavg"]\n', "named twice"),
        (MINIMAL + '[run]\nname = "../up"\n', r"run\.name = '\.\./up'"),
        (MINIMAL + '[scenario]\nkind = "given"\n', r"needs \[\[data\.clients\]\]"),
        (MINIMAL + '[scenario]\nkind = "moon"\n', r"scenario\.kind = 'moon': must be 'iid', "),
        (MINIMAL + "[scenario.wrong_captions]\n7 = 0.5\n", r"scenario\.wrong_captions\.7: no such client"),
        (MINIMAL + "[method.local]\noptions = { gamma = 1 }\n", r"method\.local: has no aggregator"),
        (MINIMAL + "[method.shared-basis]\noptions = { gama = 1 }\n", r"method\.shared-basis\.options: .*gama"),
        (MINIMAL + '[method.shared-basis]\noptions = { rank = "half" }\n', r"method\.shared-basis\.options: .*rank"),
        ("[run]\nseed = 1\n", r"data\.num_pairs: say how many"),
        ('[data]\nformat = "llava"\n', r"data\.pairs: missing"),
        (
            '[data]\nformat = "llava"\nworld = "untouched"\npairs = "a.json"\n',
            r"data\.world = .* goes with data\.format",
        ),
        ('[data]\nworld = "new"\nnum_pairs = 10\n', r"data\.world = 'new': must be 'embedded' or 'untouched'"),
        ('[data]\nnum_pairs = 10\npairs = "a.json"\n', "makes its own pairs"),
        ('[data]\nformat = "llava"\npairs = "a.json"\n[scenario]\nkind = "style"\n', "only the embedded world"),
        ('[data]\nnum_pairs = 10\n[evaluation]\nquestions = "q.jsonl"\n', "the embedded world asks its own questions"),
        ('[model]\nvision = "some/clip"\n', r"data\.num_pairs: say how many"),
        (CLIENTS.format("num_pairs = 9"), r"data\.num_pairs: .*give each client its own files"),
        ('[data]\nformat = "llava"\npairs = []\n', r"data\.pairs: missing"),
        (CLIENTS.format("").replace('"a.json"', "[]"), r"data\.clients\.0\.pairs: names no file"),
        ('[data]\nformat = "llava"\npairs = ["a", "b", "a"]\n', r"data\.pairs: names 'a' twice"),
        (CLIENTS.format("").replace('"a.json"', '["x", "x"]'), r"data\.clients\.0\.pairs: names 'x' twice"),
        ("[data\n", "not valid TOML"),
        ("data = 3\n", r"data = 3: must be a table"),
        (MINIMAL + "[training]\nbeta_1 = 1.0\n", r"training\.beta_1 = 1\.0: must be less than 1$"),
        (MINIMAL + "[training]\nbeta_2 = 1\n", r"training\.beta_2 = 1: must be less than 1$"),
        (MINIMAL + "[training]\nlearning_rate = inf\n", r"training\.learning_rate = inf: must be a finite number"),
        (MINIMAL + "[training]\nmax_gradient_norm = inf\n", r"max_gradient_norm = inf: must be a finite number"),
        (
            MINIMAL + "[method.local]\nlearning_rate = nan\n",
            r"method\.local\.learning_rate = nan: must be a finite number",
        ),
        (MINIMAL + "[federation]\nrounds = true\n", r"federation\.rounds = True: must be a valid integer"),
        (MINIMAL + '[federation]\nrounds = "3"\n', r"federation\.rounds = '3': must be a valid integer"),
        (MINIMAL + '[training]\nlearning_rate = "3"\n', r"training\.learning_rate = '3': must be a valid number"),
        (MINIMAL + "feature_store = 1\n", r"data\.feature_store = 1: must be a valid boolean"),
        ('[data]\nformat = "llava"\npairs = 3\n', r"toml: data\.pairs = 3: must be a path or a list of paths$"),
        (
            '[data]\nformat = "llava"\npairs = ["a", 3]\n',
            r"data\.pairs = \['a', 3\]: must be a path or a list of paths$",
        ),
        (MINIMAL + "[run]\nfolder = 3\n", r"run\.folder = 3: must be a path$"),
        (CLIENTS.format("").replace("pairs =", "pair ="), r"clients\.0\.pair: unknown key; did you mean pairs\?"),
        (CLIENTS.format("").replace("pairs =", "images ="), r"data\.clients\.0\.pairs: missing$"),
        (MINIMAL + "[model]\nvision = ''\n", r"model\.vision = ''"),
        (
            MINIMAL + "[method.mine]\nlearning_rate = 1\n",
            r"toml: method\.mine: no method is named 'mine'\. There are: centralized",
        ),
        (
            MINIMAL + "[method.mine]\naggregator = 'fedag'\n",
            r"method\.mine\.aggregator: .* did you mean fedavg\? There are",
        ),
        (MINIMAL + "[method.report]\naggregator = 'fedavg'\n", r"method\.report: 'report' is a folder"),
        (MINIMAL + '[run]\nmethods = ["prepared"]\n', r"run\.methods: 'prepared' is a folder"),
        (MINIMAL + '[method.evaluations]\naggregator = "fedavg"\n', r"method\.evaluations: 'evaluations' is a folder"),
        (MINIMAL + '[method."../up"]\naggregator = "fedavg"\n', r"method\.\.\./up: '\.\./up' names a folder; use"),
    ],
)
def test_mistakes_are_told_in_one_line_with_their_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "recipe.toml") in str(caught.value)
