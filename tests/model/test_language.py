import pytest
import torch

from fedcmp.model.language import LanguageModel


@pytest.fixture(scope="module")
def world():
    return LanguageModel("world")


def padded(language, rows):
    length = max(map(len, rows))
    ids = torch.tensor([row + [language.pad] * (length - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def rows_of(language, texts):
    return [[*language.tokenizer(t, add_special_tokens=False)["input_ids"], language.end] for t in texts]


def reference_losses(language, visual, rows):
    """One row at a time, through the library's own labels."""
    out = []
    for i, row in enumerate(rows):
        before = language.inputs(None if visual is None else visual[i : i + 1], torch.empty(1, 0, dtype=torch.long))
        inputs = torch.cat([before, language.embed([row])], 1)
        labels = torch.tensor([[-100] * before.shape[1] + row])
        loss = language.model(inputs_embeds=inputs, labels=labels).loss
        out.append(loss * len(row))
    return torch.stack(out)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("which", ["world", "byte-level"])
def test_losses_equal_the_librarys_row_by_row(which, blind, world, byte_level_llm):
    language = world if which == "world" else LanguageModel(str(byte_level_llm))
    texts = ["a photo of a small red circle at the top left .", "a sketch .", "this night shows a happy blue face ."]
    rows = rows_of(language, texts)
    ids, lengths = padded(language, rows)
    torch.manual_seed(0)
    visual = None if blind else torch.randn(3, 5, language.width)
    losses = language.caption_losses(visual, ids, lengths)
    assert losses.shape == (int(lengths.sum()),)
    sums = torch.stack([part.sum() for part in losses.split(lengths.tolist())])
    torch.testing.assert_close(sums, reference_losses(language, visual, rows), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_visual_tokens_and_nothing_else(world):
    ids, lengths = padded(world, rows_of(world, ["a photo ."]))
    visual = torch.randn(1, 9, world.width, requires_grad=True)
    world.caption_losses(visual, ids, lengths).mean().backward()
    assert visual.grad is not None
    assert visual.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.model.parameters())


@pytest.mark.parametrize("options", [{}, {"logit_rows": 3}, {"frozen_precision": "float8"}])
def test_attention_is_causal_without_a_mask(options, monkeypatch):
    """A mask, were it only the causal one, would keep a GPU from its fastest kernel."""
    language, real, seen = LanguageModel("world", **options), torch.nn.functional.scaled_dot_product_attention, []

    def spied(*arguments, **named):
        seen.append((named.get("attn_mask"), named.get("is_causal")))
        return real(*arguments, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spied)
    rows = rows_of(language, ["a photo .", "a photo of a small red circle at the top left ."])
    language.caption_losses(torch.randn(2, 9, language.width), *padded(language, rows))
    assert seen == [(None, True)] * 4


def test_padding_does_not_change_a_loss(world):
    short, long = rows_of(world, ["a photo .", "a photo of a small red circle at the top left ."])
    visual = torch.randn(2, 9, world.width)
    together = world.caption_losses(visual, *padded(world, [short, long]))[: len(short)]
    alone = world.caption_losses(visual[:1], *padded(world, [short]))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_greedy_tokens_agree_with_generate(world):
    torch.manual_seed(0)
    visual = torch.randn(4, 9, world.width)
    prompt = torch.tensor(
        world.tokenizer(["question : what color is the text ? answer :"] * 4, add_special_tokens=False)["input_ids"]
    )
    written = world.generate(visual, prompt, max_new_tokens=1)
    filler = torch.full((4, 1), world.end)
    best = world.greedy_tokens(visual, torch.cat([prompt, filler], 1), 1)
    assert [world.tokenizer.decode(row) for row in best] == written


def test_mean_embeddings_leave_padding_out(world):
    ids, lengths = padded(world, rows_of(world, ["a photo .", "a small red circle in a photo ."]))
    alone = world.embed(ids[0, : lengths[0]]).mean(0)
    torch.testing.assert_close(world.mean_embeddings(ids, lengths)[0], alone)
