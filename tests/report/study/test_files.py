from io import BytesIO

from PIL import Image

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.files import PNG_NAMES, study_pngs

from .fakes import add_run, run_content, write_study


def test_every_figure_is_drawn(tmp_path):
    def without_suites(content):
        for point in content["rounds_evaluated"][:-1]:
            point["suites"] = None  # leaves two curves to draw
        return content

    methods = ("fedavg", "shared-basis", "ties", "centralized")
    folder = write_study(tmp_path, methods=methods, scenarios=("image",), seeds=(1, 2), change=without_suites)
    odd = without_suites(run_content("fedavg", "image", 1))
    add_run(folder, {**odd, "method": "$\\frac$ 病院"})
    drawn = study_pngs(Results.of(load_study(folder)))
    assert set(drawn) == set(PNG_NAMES)
    for content in drawn.values():
        image = Image.open(BytesIO(content)).convert("RGB")
        assert image.width > 500
        assert len(image.getcolors(maxcolors=1 << 24)) > 20


def test_what_is_not_known_is_not_drawn(tmp_path):
    folder = write_study(tmp_path, methods=("shared-basis",), scenarios=("image",), seeds=(1,), extras=False)
    content = run_content("shared-basis", "image", 1)
    add_run(folder, {**content, "rounds_evaluated": content["rounds_evaluated"][-1:]})
    assert study_pngs(Results.of(load_study(folder))) == {}
