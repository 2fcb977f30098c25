"""Which columns of the file are what. Pure."""

from pydantic import ValidationError

from tunesmith.dialects.shakti.wire import Feature, TrainingConfig
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.faults import reason
from tunesmith.spec.reading import Purpose, Reading

_CONFIG = "training_config_json"

# Ludwig's word for the text of the input.
_SAMPLE = "{__sample__}"
_WITH_PAIRS = ("dpo", "orpo")


def to_reading(config: TrainingConfig) -> Reading:
    """How the rows are to be understood. Without any column or template, the keys of the rows tell.

    Raises:
        InvalidRequestError: a column that is needed is not named, or two fields name different ones.
    """
    answer = _one_of(config.output_column, config.output_features, "output")
    template = config.prompt.template
    if config.model_type == "vlm":
        _require_vision_columns(config)
    elif answer is None and (template is not None or config.input_column or config.input_features):
        raise InvalidRequestError(
            f"{_CONFIG} says what is asked, and not which column holds the answer.",
            param=f"{_CONFIG}.output_column",
            hint="Name it as output_column, or in output_features.",
        )
    question = _question(config, template)
    columns = _columns(config, question, answer)
    try:
        return Reading(columns=columns, template=_filled(template, question))
    except ValidationError as error:
        first = error.errors()[0]
        param = f"{_CONFIG}.prompt.template" if first["loc"] else _CONFIG
        raise InvalidRequestError(f"{param}: {reason(first)}.", param=param) from None


def caps(config: TrainingConfig) -> list[int | None]:
    """The most tokens of each feature, where there are features."""
    features = [*(config.input_features or ()), *(config.output_features or ())]
    return [feature.preprocessing.max_sequence_length for feature in features]


def _named(features: list[Feature] | None) -> list[str]:
    """The columns of features."""
    return [feature.column or feature.name for feature in features or ()]


def _require_vision_columns(config: TrainingConfig) -> None:
    for name in ("image_column", "output_column"):
        if getattr(config, name) is None:
            raise InvalidRequestError(
                f"{_CONFIG}.{name} is required where model_type is 'vlm'.", param=f"{_CONFIG}.{name}"
            )


def _columns(config: TrainingConfig, question: str | None, answer: str | None) -> dict[Purpose, str]:
    columns: dict[Purpose, str] = {}
    if config.image_column is not None:
        if config.model_type != "vlm":
            raise InvalidRequestError(
                f"{_CONFIG}.image_column needs the model_type 'vlm'.", param=f"{_CONFIG}.image_column"
            )
        columns["image"] = config.image_column
    if config.prompt.template is None and question is not None:
        columns["prompt"] = question
    if answer is not None and config.trainer.type in _WITH_PAIRS:
        columns |= {"chosen": answer, "rejected": config.trainer.rejected_column}
    elif answer is not None:
        columns["completion"] = answer
    return columns


def _question(config: TrainingConfig, template: str | None) -> str | None:
    """The one column that is asked, where the template does not name its columns itself."""
    asked = _named(config.input_features)
    if len(asked) > 1 and (template is None or _SAMPLE in template):
        raise InvalidRequestError(
            f"{_CONFIG}.input_features names {len(asked)} columns, which need a prompt.template with each of them.",
            param=f"{_CONFIG}.input_features",
            hint=f"Such as {' '.join('{' + name + '}' for name in asked)!r}.",
        )
    if len(asked) > 1:
        return None
    return _one_of(config.input_column, config.input_features, "input")


def _filled(template: str | None, question: str | None) -> str | None:
    if template is None or _SAMPLE not in template:
        return template
    if question is None:
        raise InvalidRequestError(
            f"{_CONFIG}.prompt.template has {_SAMPLE}, and no input column is named.",
            param=f"{_CONFIG}.prompt.template",
            hint="Name it as input_column, or in input_features.",
        )
    return template.replace(_SAMPLE, f"{{{question}}}")


def _one_of(column: str | None, features: list[Feature] | None, side: str) -> str | None:
    """The column that two fields may name."""
    columns = _named(features)
    if len(columns) > 1:
        raise InvalidRequestError(
            f"{_CONFIG}.{side}_features names {len(columns)} columns; give one.", param=f"{_CONFIG}.{side}_features"
        )
    if column is not None and columns and columns[0] != column:
        raise InvalidRequestError(
            f"{_CONFIG}.{side}_column is {column!r}, and {side}_features names {columns[0]!r}.",
            param=f"{_CONFIG}.{side}_column",
            hint="Keep one of them.",
        )
    return columns[0] if columns else column
