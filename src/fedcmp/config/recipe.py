"""The whole recipe, its sections checked together."""

from dataclasses import replace
from typing import Self

from pydantic import Field, ValidationInfo, model_validator

from fedcmp.config import combinations
from fedcmp.config.methods import Chosen
from fedcmp.config.sections import (
    Data,
    Deployment,
    Evaluation,
    Federation,
    Method,
    Model,
    Run,
    Scenario,
    Section,
    Training,
)
from fedcmp.errors import UserError
from fedcmp.references import is_federated

NAMES_ONLY = {"options": "names"}  # a validation context: options' values are checked later, by check_option_values


class Recipe(Section):
    """Everything that a run depends on."""

    run: Run = Run()
    model: Model = Model()
    data: Data = Data()
    scenario: Scenario = Scenario()
    federation: Federation = Federation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    deployment: Deployment = Deployment()
    method: dict[str, Method] = Field({}, description="[method.NAME]: what the method of that name does differently")

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        combinations.check_data(self.data, self.evaluation, self.deployment)
        combinations.check_scenario(self.scenario, self.data, self.deployment)
        combinations.check_federation(self.federation, self.scenario, self.data, self.deployment)
        combinations.check_deployment(self.deployment, self.data)
        combinations.check_model(self.model)
        combinations.check_run(self.run, self.method)
        for name in [*self.run.methods, *self.method]:
            combinations.check_method(name, self.method.get(name))
        federated = {name: self.chosen(name) for name in self.run.methods if is_federated(name)}
        combinations.check_asynchronous(self.federation, self.run, self.deployment, federated)
        if info.context is not NAMES_ONLY:
            self.check_option_values()
        return self

    def check_option_values(self) -> None:
        """Check what the methods' options are set to; loads torch where any is set.

        Raises:
            ValueError: names the first that is not possible.
        """
        for name, given in self.method.items():
            combinations.check_option_values(name, given)

    def check_own_pairs(self) -> None:
        """Refuse to simulate a federation whose pairs are at its sites alone.

        Raises:
            UserError: neither [data] nor [[data.clients]] says where pairs are.
        """
        try:
            combinations.check_own_pairs(self.data)
        except ValueError as error:
            raise UserError(str(error)) from None

    def method_settings(self, name: str) -> Method:
        """Return the settings of one method, defaults where the recipe is silent."""
        return self.method.get(name, Method())

    def learning_rate(self, name: str) -> float | None:
        """Return the peak rate that the recipe names for one method, or for all; None where it names none."""
        return self.method_settings(name).learning_rate or self.training.learning_rate

    def chosen(self, name: str) -> Chosen:
        """Return server rule, local objective and step of one method; a random basis is drawn from the run's seed."""
        found = combinations.chosen(name, self.method_settings(name))
        if found.step_options.get("basis") == "random" and found.step_options.get("seed") is None:
            return replace(found, step_options={**found.step_options, "seed": self.run.seed})
        return found
