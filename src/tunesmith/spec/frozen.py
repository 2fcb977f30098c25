"""What every value of the language is made of."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: immutable, without unknown fields, documented by the text under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
