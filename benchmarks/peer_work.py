"""The part and settings that our rounds give a client, for peers that train the same steps in loops of their own."""

from torch import Tensor

from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner, Part, Trained
from fedcmp.client.schedule import Schedule
from fedcmp.client.training import train_cohort
from fedcmp.simulation.engine import Engine


def work_of(engine: Engine, client: int, round_index: int) -> tuple[Part, Optimisation]:
    """What our own loop gives that client in that round."""
    training, batches = engine.recipe.training, engine.batches(client)
    schedule = Schedule(training.learning_rate, training.warmup_ratio, training.schedule)
    rates = schedule.rates([len(part) for part in batches], round_index)
    settings = Optimisation(training.beta_1, training.beta_2, training.weight_decay, training.max_gradient_norm)
    return Part(batches[round_index], rates, engine.data.manifest.swapped), settings


def train_one(engine: Engine, part: Part, settings: Optimisation, start: dict[str, Tensor]) -> Trained:
    """Train one client alone, without an optimiser's state from before."""
    return train_cohort(engine.vlm, engine.data.train, [Learner(part, start)], settings)[0]
