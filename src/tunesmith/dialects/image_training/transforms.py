"""Transforms as requests spell them. The seed leaves the vocabulary open; ours is in `data/imaging/vocabulary.py`.

Pictures are taken through the list in its order.
"""

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from tunesmith.data.imaging.vocabulary import TRANSFORMS
from tunesmith.dialects._wire import to_error
from tunesmith.spec.errors import InvalidRequestError

_FIELD = "preprocessing_transforms"
_NAMES = ("type", "name", "method")


def canonical_transforms(wishes: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Transforms as `{"type": name, parameter: value, ...}` with every parameter filled in.

    A wish names its transform by one of `type`, `name` and `method`, in any letter case, and has its parameters beside
    it or in `params`.

    Raises:
        InvalidRequestError: a transform or a parameter is unknown, missing or out of range; `param` is its path.
    """
    return tuple(_canonical(wish, f"{_FIELD}.{index}") for index, wish in enumerate(wishes))


def _canonical(wish: dict[str, Any], path: str) -> dict[str, Any]:
    key, name = _name(wish, path)
    beside = {field: value for field, value in wish.items() if field not in (key, "params")}
    if "params" not in wish:
        return {"type": name, **_checked(name, beside, path)}
    if beside:
        field = next(iter(beside))
        raise InvalidRequestError(
            f"{path}.{field} stands beside params.", param=f"{path}.{field}", hint="Put all parameters into params."
        )
    return {"type": name, **_checked(name, wish["params"], f"{path}.params")}


def _name(wish: dict[str, Any], path: str) -> tuple[str, str]:
    """The key under which a wish names its transform, and the name."""
    keys = [key for key in _NAMES if key in wish]
    if len(keys) != 1:
        raise InvalidRequestError(
            f"{path} must name one transform by 'type'.", param=path, hint=f"Known: {', '.join(TRANSFORMS)}."
        )
    given = wish[keys[0]]
    name = given.lower() if isinstance(given, str) else None
    if name not in TRANSFORMS:
        raise InvalidRequestError(
            f"{path}.{keys[0]}: no transform is called {str(given)[:64]!r}.",
            param=f"{path}.{keys[0]}",
            hint=f"Known: {', '.join(TRANSFORMS)}.",
        )
    return keys[0], name


def _checked(name: str, parameters: Any, path: str) -> dict[str, Any]:
    try:
        return TRANSFORMS[name].model_validate(parameters).model_dump()
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *path.split("."), *fault["loc"])} for fault in error.errors()]
        found = to_error(RequestValidationError(faults), "application/json")
        allowed = ", ".join(TRANSFORMS[name].model_fields) or "none"
        raise InvalidRequestError(
            found.message, param=found.param, hint=f"Parameters of {name!r}: {allowed}."
        ) from error
