"""What differs between architectures of text-to-image models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

Condition = Mapping[str, Tensor]
"""What a model reads of one caption, by the family's own names; without a batch dimension."""


@dataclass(frozen=True)
class Grid:
    """Which sizes of pictures fit a model."""

    patch: int
    """Pixels along the edge of what becomes one token: edges are multiples of it."""

    longest_edge: int | None = None
    """In pixels; none without limit."""


@dataclass(frozen=True)
class Drawing:
    """How a sample is drawn."""

    width: int
    """In pixels."""

    height: int
    """In pixels."""

    steps: int
    guidance: float
    seed: int
    between: Callable[[], None]
    """Called behind every denoising step; may raise."""


class Family(Protocol):
    """One architecture: its parts, and how its transformer is run. Latents are [C, H, W] or, in batches, [B, C, H, W],
    scaled as the transformer reads them."""

    @property
    def name(self) -> str:
        """As its makers call it."""
        ...

    @property
    def pipeline_class(self) -> str:
        """Name in diffusers, and in a folder's `model_index.json`."""
        ...

    @property
    def transformer_class(self) -> str:
        """Name in diffusers."""
        ...

    @property
    def vae_class(self) -> str:
        """Name in diffusers."""
        ...

    @property
    def encoders(self) -> tuple[str, ...]:
        """Folders of the text encoders and their tokenizers."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """Those of the encoders that a model may lack."""
        ...

    @property
    def blocks(self) -> tuple[str, ...]:
        """Lists of layers within the transformer, on which adapters are put."""
        ...

    @property
    def caption_tokens(self) -> int:
        """The most tokens that it reads of a caption."""
        ...

    @property
    def caption_tokenizer(self) -> str:
        """Folder of the tokenizer that counts them."""
        ...

    def grid(self, folder: Path) -> Grid:
        """Which pictures fit."""
        ...

    def text_pipeline(self, folder: Path, dtype: Any) -> Any:
        """The pipeline with its text encoders alone."""
        ...

    def encode_caption(self, pipeline: Any, caption: str, tokens: int) -> Condition:
        """What the transformer reads of a caption, of which up to `tokens` count."""
        ...

    def encode_picture(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of a picture [3, H, W] with values from -1 to 1."""
        ...

    def collate(self, conditions: Sequence[Condition]) -> dict[str, Tensor]:
        """Conditions as one batch."""
        ...

    def predict(self, transformer: Any, noisy: Tensor, timesteps: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The flow from pictures to noise at latents of this noise. `timesteps` [B] run to 1000."""
        ...

    def sampling_pipeline(self, folder: Path, transformer: Any, vae: Any) -> Any:
        """The pipeline without its text encoders."""
        ...

    def draw(self, pipeline: Any, wanted: Condition, unwanted: Condition, drawing: Drawing) -> Any:
        """A picture (Pillow's) of a caption. `unwanted` is the condition of the empty caption."""
        ...
