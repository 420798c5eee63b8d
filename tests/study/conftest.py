"""A small study as users write it."""

import copy
import tomllib

import pytest
import tomli_w

CONTENT = """
[study]
name = "small"
workers = 1
suites = ["mme-world"]
[base.data]
num_pairs = 200
[base.federation]
rounds = 2
[base.evaluation]
captions = 32
questions_per_kind = 0
samples = 0
[tuning]
scenario = "image"
seed = 9
rungs = [{ trials = 2, captions = 100 }, { trials = 1, captions = 150 }]
[scenario.image]
title = "Image clusters"
seeds = [1, 2]
trajectory_seeds = [1]
ablation_seeds = [1]
recipe.scenario = { kind = "image", clients = 2 }
[scenario.iid]
title = "IID"
seeds = [1]
methods = { best = 1, of = "image" }
recipe.scenario = { kind = "iid", clients = 2 }
[method.centralized]
title = "Centralized"
family = "reference"
learning_rates = [0.003]
[method.fedavg]
title = "FedAvg"
learning_rates = [0.01, 0.003]
[method.shared-basis]
title = "Fed-CMP"
family = "ours"
table = "preset"
arms = { momentum = true }
learning_rates = [0.005, 0.01]
knob = { name = "options.momentum", values = [0.5, 0.0] }
[method.arm-no-momentum]
title = "Fed-CMP without momentum"
family = "ablation"
table = "preset"
arms = { momentum = false }
like = "shared-basis"
options = { momentum = 0.0, server_rate = 1.0 }
"""


@pytest.fixture
def content(tmp_path):
    parsed = tomllib.loads(CONTENT)
    parsed["study"]["folder"] = str(tmp_path / "results")
    return copy.deepcopy(parsed)


@pytest.fixture
def write(tmp_path):
    def written(content):
        path = tmp_path / "study.toml"
        path.write_text(tomli_w.dumps(content))
        return path

    return written
