"""A plain PyTorch model, the clients' data, and the training loop: nothing here knows Flower or fedcmp."""

import torch
from torch import Tensor, nn

INPUTS, HIDDEN, CLASSES, SAMPLES, BATCH, SPREAD = 32, 64, 8, 512, 32, 6.0


def make_model() -> nn.Module:
    """Return the model, the same on server and clients."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def data_of(client: int) -> tuple[Tensor, Tensor]:
    """Return one client's inputs, largest along four directions of its own, and their classes; -1: evenly spread."""
    torch.manual_seed(1)
    teacher, turn = torch.randn(INPUTS, CLASSES), torch.linalg.qr(torch.randn(INPUTS, INPUTS))[0]
    torch.manual_seed(100 + client)
    inputs = torch.randn(SAMPLES, INPUTS)
    inputs[:, 4 * client % INPUTS :][:, :4] *= SPREAD if client >= 0 else 1.0
    inputs = inputs @ turn.T
    return inputs, (inputs @ teacher).argmax(1)


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, classes: Tensor, *, seed: int) -> float:
    """Train one epoch; return the mean loss."""
    model.train()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    losses = []
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[batch]), classes[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def loss_and_accuracy(model: nn.Module, inputs: Tensor, classes: Tensor) -> tuple[float, float]:
    """Evaluate."""
    model.eval()
    scores = model(inputs)
    loss = nn.functional.cross_entropy(scores, classes).item()
    return loss, (scores.argmax(1) == classes).float().mean().item()
