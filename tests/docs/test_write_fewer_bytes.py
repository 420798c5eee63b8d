"""The page of the traffic says what each way sends and keeps of the gain."""

from docs.write_fewer_bytes import page
from tests.docs.studies import study_of

LOSSES = {"fedavg": 0.42, "shared-basis": 0.32, "rounded": 0.33}
TITLES = {"fedavg": "FedAvg", "shared-basis": "shared-basis (ours)", "rounded": "rounded"}


def test_the_page(tmp_path):
    methods = {name: {"title": title, "federated": True} for name, title in TITLES.items()}
    sent = {"fedavg": 13_000_000, "shared-basis": 35_000_000, "rounded": 16_900_000}
    text = page(study_of(tmp_path / "study", methods, {"image": LOSSES}, sent=sent))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "MB" not in line and "---" not in line]
    assert rows == [
        "| FedAvg | 13.0 | 1.00 | 0.420 ± 0.002 | 0.670 ± 0.002 | 0 % ± 0 |",
        "| rounded | 16.9 | 1.30 | 0.330 ± 0.002 | 0.580 ± 0.002 | 90 % ± 0 |",
        "| shared-basis (ours) | 35.0 | 2.69 | 0.320 ± 0.002 | 0.570 ± 0.002 | 100 % ± 0 |",
    ]
