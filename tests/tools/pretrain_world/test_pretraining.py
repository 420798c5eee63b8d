import json

import pytest
import torch
from safetensors.torch import load_file

from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.world.content import CELLS
from fedcmp.world.scene import make_scenes
from tools.pretrain_world.__main__ import main, pretrain
from tools.pretrain_world.documents import BagEncoder
from tools.pretrain_world.language import PHASES, LanguageTask, language_config, start_by_matching


def test_a_few_steps_write_folders_that_load(tmp_path):
    lines = []
    pretrain(tmp_path, part="both", steps=2, log=lines.append)
    assert VisionEncoder(str(tmp_path / "vision")).num_patches == CELLS
    assert LanguageModel(str(tmp_path / "language")).separator == "<sep>"
    assert any("vision step" in line for line in lines)
    assert any("language phase 2 step" in line for line in lines)
    with pytest.raises(FileExistsError, match="holds a model already"):
        pretrain(tmp_path, part="vision", steps=2, log=lines.append)


def test_pretraining_is_reproducible(tmp_path):
    for name in ("a", "b"):
        pretrain(tmp_path / name, part="language", steps=2, log=lambda _line: None)
    first, second = (load_file(tmp_path / name / "language" / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_loss_falls_on_what_is_to_be_learned():
    """A model's loss is the weighted mean of its token losses, for documents of every kind."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    task, model = LanguageTask(PHASES[-1].bodies), LlamaForCausalLM(language_config())
    start_by_matching(model)
    scenes = make_scenes(404, 0, 40, images=False)
    kinds = {document.prefix for document in task.writer.documents(scenes)}
    assert {"cells", "notes", "none"} <= kinds
    for document in task.writer.documents(scenes):
        assert len(document.ids) == len(document.weights)
        assert document.weights[0] == 0
        assert sum(document.weights) > 0
    assert task.loss(model, scenes).item() > 0


def test_cells_say_what_the_picture_shows():
    scenes, bags = make_scenes(5, 0, 30, images=False), BagEncoder()
    ids = bags.cell_ids(scenes)
    words = {i: word for word, i in bags.ids.items()}
    for row, content in enumerate(scenes.contents):
        for cell, text in enumerate(content.cell_words()):
            said = {words[i] for i in ids[row, cell].tolist()} - {"<pad>"}
            assert set(text.split()) <= said


def test_shipped_weights_are_small_and_described():
    from importlib import resources

    folder = resources.files("fedcmp.world") / "weights"
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 12 * 2**20
    card = (folder / "MODEL_CARD.md").read_text()
    for part in ("vision", "language"):
        assert json.loads((folder / part / "config.json").read_text())["architectures"][0] in card


def test_the_command_says_where_the_weights_are_and_what_is_wrong(tmp_path, capsys):
    main([str(tmp_path), "--part", "language", "--steps", "1"])
    assert capsys.readouterr().out == f"pretrained: {tmp_path}\n"
    for arguments, mistake in ((["--part", "language"], "holds a model already"), (["--steps", "0"], "at least 1")):
        with pytest.raises(SystemExit, match="2"):
            main([str(tmp_path), *arguments])
        assert mistake in capsys.readouterr().err
