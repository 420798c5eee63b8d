"""The clients: the arrays into the model, one epoch with the optimiser that the rule asks for, the answer."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from task import data_of, fit, loss_and_accuracy, make_model

from fedcmp.federation.flower import load_arrays, local_optimizer, local_update

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round's epoch."""
    model, client = make_model(), int(context.node_config["partition-id"])
    asked = load_arrays(message, model)
    optimizer = local_optimizer(message, model, lr=float(message.content["config"]["lr"]))
    inputs, classes = data_of(client)
    loss = fit(model, optimizer, inputs, classes, seed=asked.round)
    metrics = {"train-loss": loss, "client": client}
    return local_update(message, model, optimizer=optimizer, num_examples=len(inputs), metrics=metrics)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the merged model on the client's own data; this is Flower's own way, without a helper."""
    model, client = make_model(), int(context.node_config["partition-id"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    inputs, classes = data_of(client)
    loss, accuracy = loss_and_accuracy(model, inputs, classes)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(inputs), "client": client})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
