"""Use a server rule in your own training loop: tensors in, tensors out; no recipe, no files.

    python examples/rule_alone.py

Three clients fine-tune a small layer on data of their own; Fed-CMP and FedAvg merge what comes back. Any dict of named
floating-point tensors will do.
"""

import torch
from torch import Tensor

from fedcmp.aggregation import ClientUpdate, create

CLIENTS, SAMPLES, WIDTH, STEPS, RATE = 3, 200, 16, 20, 0.1


def client_data(client: int, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs that lean to a direction of the client's own, and what the target layer makes of them."""
    generator = torch.Generator().manual_seed(client)
    inputs = torch.randn(SAMPLES, WIDTH, generator=generator)
    inputs[:, client] *= 3.0
    return inputs, inputs @ target.T


def train_locally(state: dict[str, Tensor], inputs: Tensor, wanted: Tensor) -> tuple[dict[str, Tensor], float]:
    """Return a client's new tensors and its last loss."""
    layer = torch.nn.Linear(WIDTH, WIDTH)
    layer.load_state_dict(state)
    optimizer = torch.optim.SGD(layer.parameters(), lr=RATE)
    loss = torch.zeros(())
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(inputs), wanted)
        loss.backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in layer.state_dict().items()}, loss.item()


def main(rule: str = "fedavg", *, rounds: int = 5, **options: object) -> float:
    """Train for some rounds; return the distance of the merged layer from the target."""
    torch.manual_seed(0)
    target = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    state = {"weight": torch.zeros(WIDTH, WIDTH), "bias": torch.zeros(WIDTH)}
    aggregator = create(rule, **options)
    for _ in range(rounds):
        updates = []
        for client in range(CLIENTS):
            new, loss = train_locally(state, *client_data(client, target))
            updates.append(ClientUpdate(new, num_examples=SAMPLES, alignment_error=loss))
        state = aggregator.aggregate(state, updates)
    distance = torch.linalg.norm(state["weight"] - target).item()
    print(f"{rule}: distance {distance:.3f}, weights {[round(weight, 3) for weight in aggregator.last_weights]}")
    return distance


if __name__ == "__main__":
    main("fedavg")
    main("fedcmp", momentum=False)
