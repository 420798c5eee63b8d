"""Two organisations train one model on their own pairs: recipe, table, captions, export.

    python examples/own_data.py

The organisations' files are scenes of the embedded world in LLaVA's format, so this runs anywhere; put your own
pairs.json and images/ in their place. `fedcmp init FOLDER` writes such a recipe as a file.
"""

from pathlib import Path

import fedcmp
from fedcmp.world.export import export_world


def main(folder: Path, *, pairs: int = 1500, rounds: int = 5) -> fedcmp.Run:
    """Train in `folder` and return the run."""
    for name, split in (("hospital-a", "train"), ("hospital-b", "validation")):
        export_world(folder / name, split=split, count=pairs)

    clients = [
        {"name": name, "pairs": folder / name / "pairs.json", "images": folder / name / "images"}
        for name in ("hospital-a", "hospital-b")
    ]
    run = fedcmp.train(
        {
            "run": {"name": "consortium", "folder": folder / "runs", "methods": ["fedavg", "shared-basis"]},
            "data": {"format": "llava", "clients": clients},
            "scenario": {"kind": "given"},
            "federation": {"rounds": rounds},
            # "model": {"vision": "openai/clip-vit-base-patch32", "language": "HuggingFaceTB/SmolLM2-135M"},
        }
    )
    print(run.table)

    image = folder / "hospital-a" / "images" / "000000.png"
    print("before:", run.caption(image, method="initial"))
    print("after: ", run.caption(image))
    print("report:", run.report())
    print("LLaVA folder:", run.export(folder / "exported"))
    return run


if __name__ == "__main__":
    main(Path("consortium"))
