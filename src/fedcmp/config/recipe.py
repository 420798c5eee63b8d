"""The whole recipe, its sections checked together."""

from typing import Self

from pydantic import Field, model_validator

from fedcmp.config import combinations
from fedcmp.config.methods import Chosen
from fedcmp.config.sections import Data, Evaluation, Federation, Method, Model, Run, Scenario, Section, Training


class Recipe(Section):
    """Everything that a run depends on."""

    run: Run = Run()
    model: Model = Model()
    data: Data = Data()
    scenario: Scenario = Scenario()
    federation: Federation = Federation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    method: dict[str, Method] = Field({}, description="[method.NAME]: what the method of that name does differently")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        combinations.check_data(self.data, self.evaluation)
        combinations.check_scenario(self.scenario, self.data)
        combinations.check_model(self.model)
        combinations.check_run(self.run)
        for name in [*self.run.methods, *self.method]:
            combinations.check_method(name, self.method.get(name))
        return self

    def method_settings(self, name: str) -> Method:
        """The settings of one method, defaults where the recipe is silent."""
        return self.method.get(name, Method())

    def learning_rate(self, name: str) -> float | None:
        """Return the peak rate that the recipe names for one method, or for all; None where it names none."""
        return self.method_settings(name).learning_rate or self.training.learning_rate

    def chosen(self, name: str) -> Chosen:
        """Server rule and local objective of one federated method."""
        return combinations.chosen(name, self.method_settings(name))
