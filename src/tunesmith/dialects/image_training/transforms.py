"""What can be done to pictures before training: names, and typed parameters of each.

The seed leaves the vocabulary open; this one is ours. Pictures are taken through the list in its order.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import Field, StringConstraints, ValidationError

from tunesmith.dialects._wire import Wire, to_error
from tunesmith.spec.errors import InvalidRequestError

Pixels = Annotated[int, Field(ge=1, le=8192)]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Nothing(Wire):
    """No parameters."""


class Size(Wire):
    """A rectangle."""

    width: Pixels
    height: Pixels


class MaxSide(Wire):
    """A limit of the longer side."""

    pixels: Pixels


class Box(Wire):
    """A rectangle in a picture; left and top count from 0."""

    left: int = Field(ge=0, le=65_535)
    top: int = Field(ge=0, le=65_535)
    width: Annotated[int, Field(ge=1, le=65_535)]
    height: Annotated[int, Field(ge=1, le=65_535)]


class Background(Wire):
    """What fills empty or transparent places."""

    color: Color = "#ffffff"


class Rotation(Wire):
    """A turn to the right. The picture grows so that nothing is cut."""

    degrees: float = Field(ge=-360, le=360)
    color: Color = "#ffffff"


class Factor(Wire):
    """1 leaves a picture as it is."""

    factor: float = Field(ge=0, le=10)


class Jitter(Wire):
    """The most by which each may change, drawn for every picture by the job's seed."""

    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)


class Blur(Wire):
    """Gaussian."""

    radius: float = Field(gt=0, le=100)
    """In pixels."""


class Cutoff(Wire):
    """Percent of the darkest and of the lightest pixels that are left out of account."""

    cutoff: float = Field(default=0.0, ge=0, lt=50)


class Likeness(Wire):
    """How many of the 64 bits of their perceptual hashes may differ between two pictures that count as the same."""

    max_distance: int = Field(default=0, ge=0, le=63)


TRANSFORMS: dict[str, type[Wire]] = {
    "resize": Size,
    "max_side": MaxSide,
    "center_crop": Size,
    "square_crop": Nothing,
    "pad_to_square": Background,
    "crop_box": Box,
    "flip_horizontal": Nothing,
    "rotate": Rotation,
    "exif_orient": Nothing,
    "convert_rgb": Nothing,
    "flatten_alpha": Background,
    "grayscale": Nothing,
    "brightness": Factor,
    "contrast": Factor,
    "color_jitter": Jitter,
    "sharpen": Factor,
    "blur": Blur,
    "auto_contrast": Cutoff,
    "dedupe": Likeness,
    "min_size_filter": Size,
}
"""Every transform with its parameters."""

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
