"""The table of steps: one row each.

To add one: write a file with a Step subclass, put a row above the class, import the file in the package's __init__.
Its keyword arguments are the options of [method.NAME.step_options].
"""

from fedcmp.client.steps.base import Step
from fedcmp.client.table import Row, Table

StepRow = Row[Step]
_STEPS: Table[Step] = Table("step")
register_step, available_steps = _STEPS.register, _STEPS.available
describe_step, create_step = _STEPS.describe, _STEPS.create
