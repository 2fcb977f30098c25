"""`expires_after`: how long a file is kept."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.spec.errors import InvalidRequestError

Seconds = Annotated[int, Field(ge=3600, le=2_592_000)]

_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


class ExpiresAfter(Wire):
    """Seconds from an event on."""

    anchor: Literal["created_at"]
    seconds: Seconds


class FormLifetime(BaseModel):
    """The same as the two fields of a form."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    anchor: Literal["created_at"] | None = Field(default=None, alias=_ANCHOR)
    seconds: Seconds | None = Field(default=None, alias=_SECONDS)

    def lifetime(self) -> float | None:
        """In seconds, or none where it has none.

        Raises:
            InvalidRequestError: one of the fields is missing.
        """
        if (self.anchor is None) != (self.seconds is None):
            given, missing = (_SECONDS, _ANCHOR) if self.anchor is None else (_ANCHOR, _SECONDS)
            raise InvalidRequestError(f"{missing} is required beside {given}.", param=missing)
        return float(self.seconds) if self.seconds is not None else None
