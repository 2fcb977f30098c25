"""What the server and a sender, the process that holds the library, say to each other: a JSON object a line."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tunesmith.spec.frozen import Frozen

STEP = "train/global_step"
"""Figure that the others are drawn over: a row's own number counts rows."""


class Begin(Frozen):
    """First to a sender: which run it is for."""

    kind: Literal["begin"] = "begin"
    run: str
    """Id of the run; one of the same id is gone on with."""

    project: str
    entity: str | None
    name: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: str
    key: str | None = Field(repr=False)
    """None = write files only."""

    base_url: str | None
    """Of the service; none without a key."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...]


class Row(Frozen):
    """To a sender: a row of the run's history. Those that the service has are passed over."""

    kind: Literal["row"] = "row"
    number: int
    """Place in the history, from 0."""

    values: dict[str, float]
    at: float


class Sample(Frozen):
    """To a sender: a row that shows what the model answered to a prompt."""

    kind: Literal["sample"] = "sample"
    number: int
    step: int
    key: str
    prompt: str
    text: str
    """Empty where it drew a picture."""

    picture: str | None
    """Path of the file; none for a text, or if it is gone."""

    at: float


class Mark(Frozen):
    """To a sender: say when all before is in its hands."""

    kind: Literal["mark"] = "mark"
    number: int


class Finish(Frozen):
    """To a sender: end the run."""

    kind: Literal["finish"] = "finish"
    state: str
    exit_code: int


class Began(Frozen):
    """From a sender: the run is there."""

    kind: Literal["began"] = "began"
    url: str | None


class Reached(Frozen):
    """From a sender: all before a mark is in its hands."""

    kind: Literal["reached"] = "reached"
    number: int


class Finished(Frozen):
    """From a sender: all is where it belongs."""

    kind: Literal["finished"] = "finished"


class Failed(Frozen):
    """From a sender, which ends: why it cannot."""

    kind: Literal["failed"] = "failed"
    reason: str


Order = Annotated[Begin | Row | Sample | Mark | Finish, Field(discriminator="kind")]
Reply = Annotated[Began | Reached | Finished | Failed, Field(discriminator="kind")]

ORDER: TypeAdapter[Order] = TypeAdapter(Order)
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
