"""What can be done to pictures before training: names, and typed parameters of each."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Pixels = Annotated[int, Field(ge=1, le=8192)]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Parameters(BaseModel):
    """Parameters of a transform: each of the very type that is asked for, and known."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Nothing(Parameters):
    """No parameters."""


class Size(Parameters):
    """A rectangle."""

    width: Pixels
    height: Pixels


class MaxSide(Parameters):
    """A limit of the longer side."""

    pixels: Pixels


class Box(Parameters):
    """A rectangle in a picture; left and top count from 0."""

    left: int = Field(ge=0, le=65_535)
    top: int = Field(ge=0, le=65_535)
    width: Annotated[int, Field(ge=1, le=65_535)]
    height: Annotated[int, Field(ge=1, le=65_535)]


class Background(Parameters):
    """What fills empty or transparent places."""

    color: Color = "#ffffff"


class Rotation(Parameters):
    """A turn to the right. The picture grows so that nothing is cut."""

    degrees: float = Field(ge=-360, le=360)
    color: Color = "#ffffff"


class Factor(Parameters):
    """1 leaves a picture as it is."""

    factor: float = Field(ge=0, le=10)


class Jitter(Parameters):
    """The most by which each may change, drawn for every picture by the job's seed."""

    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)


class Blur(Parameters):
    """Gaussian."""

    radius: float = Field(gt=0, le=100)
    """In pixels."""


class Cutoff(Parameters):
    """Percent of the darkest and of the lightest pixels that are left out of account."""

    cutoff: float = Field(default=0.0, ge=0, lt=50)


class Likeness(Parameters):
    """How many of the 64 bits of their perceptual hashes may differ between two pictures that count as the same."""

    max_distance: int = Field(default=0, ge=0, le=63)


TRANSFORMS: dict[str, type[Parameters]] = {
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


def read_transform(canonical: Mapping[str, Any]) -> tuple[str, Parameters]:
    """Name and parameters of `{"type": name, parameter: value, ...}`.

    Raises:
        KeyError: there is no such transform.
        pydantic.ValidationError: a parameter is unknown, missing or out of range.
    """
    name = canonical["type"]
    given = {key: value for key, value in canonical.items() if key != "type"}
    return name, TRANSFORMS[name].model_validate(given)
