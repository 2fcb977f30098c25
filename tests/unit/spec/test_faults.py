"""What pydantic finds wrong, in words for whoever gave the value."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from tunesmith.spec.faults import path_of, place, sentence


def _positive(value: object) -> object:
    if value == 0:
        raise ValueError("Zero is too little.")
    return value


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    checked: Annotated[int, BeforeValidator(_positive)] = 1
    max_new_tokens: int = 1
    api_key: int = 1
    required: int = 1


class Outer(BaseModel):
    inner: list[Inner | str] = []
    names: dict[str, int] = {}


class Needy(BaseModel):
    inner: Annotated[Inner, BeforeValidator(lambda value: value)]
    required: int


class Typed(BaseModel):
    needy: Needy | None = None
    names: dict[str, int] = {}
    several: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)


def _problem(model: type[BaseModel], given: object) -> dict[str, object]:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(model).validate_python(given)
    return dict(refused.value.errors()[0])


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"inner": [{"count": 0}]}, "inner.0.count"),
        ({"inner": ["a", {"checked": 0}]}, "inner.1.checked"),
        ({"inner": [{"unknown": 0}]}, "inner.0.unknown"),
        ({"names": {"constrained-int": "x"}}, "names.constrained-int"),
        ({"names": {"Ä b.c": "x"}}, "names.Ä b.c"),
        ({"inner": 5}, "inner"),
    ],
)
def test_a_path_has_what_was_typed_and_no_names_of_types(given: object, path: str) -> None:
    assert ".".join(map(str, place(_problem(Outer, given), given))) == path


def test_a_missing_field_is_in_the_path() -> None:
    given = {"inner": {"count": 1}}
    problem = _problem(Needy, given)
    assert place(problem, given) == ("required",)
    assert sentence(problem, "required") == "required is required."


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("eval_steps", "constrained-int"), "eval_steps"),
        (("function-after[_check(), Inner]", "count", "literal['all']"), "count"),
        (("inner", 0, "str"), "inner.0"),
    ],
)
def test_names_of_types_are_known_by_their_form_where_the_value_is_not(
    location: tuple[int | str, ...], path: str
) -> None:
    assert path_of(location) == path


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"checked": 0}, "checked: zero is too little, got 0."),
        (
            {"max_new_tokens": "x"},
            "max_new_tokens: input should be a valid integer, unable to parse string as an integer, got 'x'.",
        ),
        ({"api_key": "canary"}, "api_key is not valid."),
        ({"unknown": "canary"}, "unknown is not a field of this request."),
    ],
)
def test_a_sentence_says_what_is_wrong_and_hides_what_may_be_secret(given: dict[str, object], words: str) -> None:
    problem = _problem(Inner, given)
    assert sentence(problem, next(iter(given))) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"needy": "x"}, "needy: input should be an object, got 'x'."),
        ({"names": None}, "names: input should be an object, got None."),
        ({"several": None}, "several: input should be a list, got None."),
        ({"several": []}, "several: list should have at least 1 item after validation, not 0, got []."),
    ],
)
def test_types_have_the_names_of_json(given: dict[str, object], words: str) -> None:
    assert sentence(_problem(Typed, given), next(iter(given))) == words


def test_a_long_value_is_shortened() -> None:
    assert sentence(_problem(Outer, {"inner": "x" * 1000}), "inner").endswith("x….")
