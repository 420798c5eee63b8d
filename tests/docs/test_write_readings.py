"""The page of the readings says which of them train, by the study's records."""

from docs.write_readings import page
from tests.docs.studies import study_of
from tests.report.study import fakes

METHODS = {"fedavg": "FedAvg", "fedcmp": "as restored", "mixed": "re-expressed", "energy": "truncated"}


def test_the_page(tmp_path):
    folder = tmp_path / "study"
    fakes.write_json(folder / "references" / "blind.json", fakes.blind_content())
    methods = {name: {"title": title, "federated": True} for name, title in METHODS.items()}
    losses = {"image": {"fedavg": 0.425, "fedcmp": 0.95, "mixed": 0.675, "energy": 0.924}}
    text = page(study_of(folder, methods, losses))
    for expected in (
        "| FedAvg | yes | 0.425 ± 0.002 | 0.675 ± 0.002 | 100 % | 0.003 |",
        "| re-expressed | yes | 0.675 ± 0.002 | 0.925 ± 0.002 | 50 % | 0.003 |",
        "| truncated | no | 0.924 ± 0.002 |",
        "| as restored | no | 0.950 ± 0.002 |",
        "Without images: 0.925.",
    ):
        assert expected in text
