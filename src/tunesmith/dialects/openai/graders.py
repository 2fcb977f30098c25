"""Graders: how the answer of a model would be scored. Source: OpenAI's OpenAPI document, `Grader…`."""

import ast
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from tunesmith.dialects.openai.hyperparameters import Wire

_PLACE = re.compile(r"\{\{([^{}]*)\}\}")
_NAMES = re.compile(r"item(\.\w+|\[[^\[\]]+\])+|sample\.(output_text|output_json|output_tools|choices|model)([.\[].*)?")
_FUNCTIONS = {"min", "max", "abs", "floor", "ceil", "exp", "sqrt", "log"}
_FORMULA = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant, ast.Load, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.BitXor, ast.UAdd, ast.USub,
)  # fmt: skip


def _is_template(text: str) -> str:
    """Places in double braces must name the row (`item.…`) or the answer (`sample.…`)."""
    rest = _PLACE.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise ValueError("double braces do not match")
    for place in _PLACE.findall(text):
        if not _NAMES.fullmatch(place.strip()):
            raise ValueError(
                f"{{{{{place}}}}} is neither of the row, such as {{{{ item.answer }}}}, nor of the answer: "
                "{{ sample.output_text }}, {{ sample.output_json.key }}"
            )
    return text


Template = Annotated[str, AfterValidator(_is_template)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class TextPart(Wire):
    """Text within a message."""

    type: Literal["input_text", "output_text"]
    text: Template


class ImagePart(Wire):
    """A picture within a message."""

    type: Literal["input_image"]
    image_url: Template
    detail: Literal["high", "low", "auto"] | None = None


class AudioData(Wire):
    """Sound, encoded in base64."""

    data: str
    format: Literal["mp3", "wav"]


class AudioPart(Wire):
    """Sound within a message."""

    type: Literal["input_audio"]
    input_audio: AudioData


Part = Annotated[TextPart | ImagePart | AudioPart, Field(discriminator="type")]


class GraderMessage(Wire):
    """A message to the model that grades."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Template | Part | list[Template | Part]
    type: Literal["message"] | None = None


class GraderSampling(Wire):
    """How the model that grades is asked."""

    max_completions_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    seed: int | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)


class StringCheck(Wire):
    """Compares two texts."""

    type: Literal["string_check"]
    name: Name
    input: Template
    reference: Template
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Wire):
    """Measures how alike two texts are."""

    type: Literal["text_similarity"]
    name: Name
    input: Template
    reference: Template
    evaluation_metric: Literal[
        "cosine", "fuzzy_match", "bleu", "gleu", "meteor",
        "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
    ]  # fmt: skip


class PythonGrader(Wire):
    """Runs the user's own code."""

    type: Literal["python"]
    name: Name
    source: Annotated[str, Field(min_length=1)]
    image_tag: str | None = None

    @field_validator("source")
    @classmethod
    def _has_a_grade_function(cls, source: str) -> str:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"it is not Python: {error}") from None
        if not any(isinstance(node, ast.FunctionDef) and node.name == "grade" for node in tree.body):
            raise ValueError("it must define a function grade(sample, item)")
        return source


class ScoreModel(Wire):
    """Has a model give points."""

    type: Literal["score_model"]
    name: Name
    model: Name
    input: Annotated[list[GraderMessage], Field(min_length=1)]
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    sampling_params: GraderSampling | None = None

    @field_validator("range")
    @classmethod
    def _rises(cls, range: list[float] | None) -> list[float] | None:
        if range is not None and range[0] >= range[1]:
            raise ValueError("the first number must be below the second")
        return range


class LabelModel(Wire):
    """Has a model choose a label."""

    type: Literal["label_model"]
    name: Name
    model: Name
    input: Annotated[list[GraderMessage], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _passes_known_labels(self) -> Self:
        unknown = [label for label in self.passing_labels if label not in self.labels]
        if unknown:
            raise ValueError(f"passing_labels has {unknown[0]!r}, which is not one of labels")
        return self


def _one_or_several(graders: Any) -> str:
    is_one = not isinstance(graders, dict) or isinstance(graders.get("type"), str)
    return "one grader" if is_one else "several graders"


class Multi(Wire):
    """Combines several graders by a formula over their names."""

    type: Literal["multi"]
    name: Name
    graders: "OneOrSeveral"
    """One grader, or graders under the names that the formula uses."""

    calculate_output: Annotated[str, Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _formula_fits(self) -> Self:
        known = set(self.graders) if isinstance(self.graders, dict) else {self.graders.name}
        for name in _names_of(self.calculate_output):
            if name not in known:
                raise ValueError(
                    f"calculate_output names {name!r}; known: {', '.join(sorted(known))}, and the functions "
                    f"{', '.join(sorted(_FUNCTIONS))}"
                )
        return self


Nested = Annotated[
    StringCheck | TextSimilarity | PythonGrader | ScoreModel | LabelModel | Multi, Field(discriminator="type")
]
OneOrSeveral = Annotated[
    Annotated[Nested, Tag("one grader")]
    | Annotated[dict[Name, Nested], Field(min_length=1, max_length=64), Tag("several graders")],
    Discriminator(_one_or_several),
]
Grader = Annotated[StringCheck | TextSimilarity | PythonGrader | ScoreModel | Multi, Field(discriminator="type")]

Multi.model_rebuild()


def _names_of(formula: str) -> Iterator[str]:
    """Names of graders in a formula of numbers, names, + - * / ^ and a few functions; it is read, never run."""
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"calculate_output is not a formula: {formula[:100]!r}") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _FORMULA) or (isinstance(node, ast.Constant) and not _is_number(node.value)):
            raise ValueError("calculate_output may hold numbers, names of graders, + - * / ^ ( ) and functions only")
        if isinstance(node, ast.Name):
            if id(node) not in called:
                yield node.id
            elif node.id not in _FUNCTIONS:
                raise ValueError(f"calculate_output calls {node.id!r}; known: {', '.join(sorted(_FUNCTIONS))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class ValidateGrader(Wire):
    """Body of `POST /v1/fine_tuning/alpha/graders/validate`."""

    grader: Grader


class RunGrader(Wire):
    """Body of `POST /v1/fine_tuning/alpha/graders/run`."""

    grader: Grader
    model_sample: str
    item: Any = None
