"""Which evaluation is the best, and whether it is time to end."""

from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import SelectionSpec


class Choice(Frozen):
    """What the evaluations so far have shown."""

    step: int | None = None
    """Of the best one; none before the first."""

    value: float | None = None
    """Its figure."""

    fruitless: int = 0
    """How many there were in a row without improvement."""


def with_evaluation(choice: Choice, spec: SelectionSpec, step: int, value: float) -> Choice:
    """The choice after one more evaluation. Of equal ones, the first is the best."""
    if choice.value is None:
        return Choice(step=step, value=value)
    gain = choice.value - value if spec.best == "lowest" else value - choice.value
    fruitless = 0 if gain > spec.min_improvement else choice.fruitless + 1
    if gain > 0:
        return Choice(step=step, value=value, fruitless=fruitless)
    return choice.model_copy(update={"fruitless": fruitless})


def is_time_to_end(choice: Choice, spec: SelectionSpec) -> bool:
    """Whether the evaluations have not improved for as long as the job has patience."""
    return spec.patience is not None and choice.fruitless >= spec.patience
