"""A ClientApp as Flower's quickstart has it."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from quickstart.task import new_model
from quickstart.task import train as train_model

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the model on local data."""
    model = new_model(context.run_config["vision-width"], context.run_config["text-width"])
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    examples = train_model(model)
    record = ArrayRecord(model.state_dict())
    metrics = MetricRecord({"train_loss": 1.0, "num-examples": examples})
    return Message(content=RecordDict({"arrays": record, "metrics": metrics}), reply_to=msg)
