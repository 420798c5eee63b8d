"""The server: any rule of fedcmp as Flower's strategy."""

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import save_file
from task import data_of, loss_and_accuracy, make_model

from fedcmp.aggregation import create
from fedcmp.federation.flower import AggregatorStrategy, array_record, tensors_of

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    config = context.run_config
    strategy = AggregatorStrategy(
        create(str(config["rule"])),
        min_available_nodes=int(config["clients"]),
        checkpoint=str(config["checkpoint"]) or None,
        order_by="client",
    )
    result = strategy.start(
        grid,
        array_record(make_model().state_dict()),
        num_rounds=int(config["num-rounds"]),
        train_config=ConfigRecord({"lr": float(config["lr"])}),
        evaluate_fn=evaluate,
    )
    if config["result"]:
        save_file(tensors_of(result.arrays), str(config["result"]))
    measured = result.evaluate_metrics_serverapp
    for number, metrics in measured.items():
        print(f"round {number:2}: loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}")


def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate on mixed data that no client has."""
    model = make_model()
    model.load_state_dict(tensors_of(arrays))
    loss, accuracy = loss_and_accuracy(model, *data_of(-1))
    return MetricRecord({"loss": loss, "accuracy": accuracy})
