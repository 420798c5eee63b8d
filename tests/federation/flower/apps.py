"""A small app for the tests: a model with or without batch normalisation, clients with data of their own."""

from collections.abc import Callable

import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from fedcmp.federation.flower import LocalGrid, array_record, load_arrays, local_optimizer, local_update

CLIENTS, SAMPLES = 4, 24


def make_model(*, norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(6, 5), *([nn.BatchNorm1d(5)] if norm else []), nn.Tanh(), nn.Linear(5, 3, bias=False)]
    return nn.Sequential(*layers)


def data_of(client: int, number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * client + number)
    inputs = torch.randn(SAMPLES + 3 * client, 6, generator=generator) * torch.tensor([3.0, 2, 1, 1, 1, 1]).roll(client)
    return inputs, inputs[:, :3].roll(client, 0)


def train(message: Message, client: int, *, norm: bool = False, lr: float = 0.02) -> Message:
    """One epoch of three steps."""
    model = make_model(norm=norm)
    asked = load_arrays(message, model)
    optimizer = local_optimizer(message, model, lr=lr)
    inputs, wanted = data_of(client, asked.round)
    loss = torch.zeros(())
    for batch in torch.arange(len(inputs)).split(9):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs[batch]), wanted[batch])
        loss.backward()
        optimizer.step()
    return local_update(
        message,
        model,
        num_examples=len(inputs),
        optimizer=optimizer,
        alignment_error=0.1 * client,
        metrics={"loss": loss.item(), "losses": [float(client), 1.0]},
    )


def client_app(*, norm: bool = False) -> ClientApp:
    app = ClientApp()

    @app.train()
    def on_train(message: Message, context: Context) -> Message:
        return train(message, int(context.node_config["partition-id"]), norm=norm)

    @app.evaluate()
    def on_evaluate(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        metrics = MetricRecord({"num-examples": 1 + client, "score": float(client)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def make_grid(app: ClientApp, clients: int = CLIENTS, **options: object) -> LocalGrid:
    return LocalGrid(app, [{"partition-id": number} for number in range(clients)], **options)


def initial(*, norm: bool = False) -> ArrayRecord:
    return array_record(make_model(norm=norm).state_dict())


def answering(reply: Callable[[Message, int], RecordDict]) -> ClientApp:
    """An app whose clients answer with what a function of message and client returns."""
    app = ClientApp()

    @app.train()
    def on_train(message: Message, context: Context) -> Message:
        return Message(reply(message, int(context.node_config["partition-id"])), reply_to=message)

    return app


def bits(arrays: ArrayRecord) -> dict[str, tuple[str, bytes]]:
    return {name: (array.dtype, array.data) for name, array in arrays.items()}


def broken(arrays: ArrayRecord, name: str, **fields: object) -> ArrayRecord:
    """The arrays with some fields of one of them replaced."""
    array = arrays[name]
    known = {"dtype": array.dtype, "shape": array.shape, "stype": array.stype, "data": array.data}
    return ArrayRecord({**dict(arrays), name: Array(**{**known, **fields})})
