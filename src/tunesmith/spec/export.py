"""What a user takes home after a training: the orders for making it, and what its check found."""

from pathlib import Path
from typing import Literal

from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import JobSpec
from tunesmith.spec.reading import Reading, SplitSpec

Format = Literal["merged", "gguf"]
Number = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class ExportOptions(Frozen):
    """What is to be made of a model, with all values filled in."""

    format: Format
    """`merged`: a folder of safetensors with the adapter worked into the base. `gguf`: one file for llama.cpp."""

    dtype: Number | None
    """Number format of merged weights; none for GGUF."""

    quantization: Quantization | None
    """Number format of the matrices of a GGUF file; none for merged weights."""

    @property
    def numbers(self) -> Number | Quantization:
        """The number format, by whichever name the format has for it."""
        number = self.dtype or self.quantization
        assert number is not None
        return number


class RowsToAsk(Frozen):
    """Rows that the training did not see."""

    path: Path
    reading: Reading
    split: SplitSpec | None
    """How the part `validation` is found in the file; none = the whole file is held out."""

    seed: int


class Finish(Frozen):
    """How the training stood whose weights are the result."""

    steps: int
    """Up to these weights, which are not the last ones where the job asked for the best."""

    train_loss: float | None
    """Of the last steps that were reported by then."""

    validation_loss: float | None
    """Of the last evaluation by then."""


class Origin(Frozen):
    """The job behind a model."""

    job_id: str
    spec: JobSpec
    finish: Finish


class ExportSpec(Frozen):
    """What an export's worker is told: the content of `spec.json`."""

    purpose: Literal["export"] = "export"
    model: str
    """The model's id."""

    base_name: str
    base_revision: str | None
    """Commit of a base from the hub."""

    base: Path
    """Folder of the whole weights: the base below an adapter, or the model itself."""

    adapter: Path | None
    """Folder of the adapter to work in, in PEFT's format."""

    options: ExportOptions
    trained_dtype: Literal["bfloat16", "float32"]
    """The number format in which the model was trained, and is asked here."""

    origin: Origin | None
    """None for a model that was brought in."""

    held_out: RowsToAsk | None
    texts: tuple[str, ...]
    """Beginnings of training rows up to the first trained token, to be continued where no held-out rows are kept."""


class Verification(Frozen):
    """How an export answers beside the trained model, over the trained model's own greedy continuations of prompts."""

    prompts: int
    prompts_from: Literal["validation", "training", "fixed"]
    """Held-out rows, else rows of the training, else sentences that Tunesmith brings."""

    positions: int
    """Places at which answers were compared."""

    kl_divergence: float
    """Mean over these places, in nats, of the export's distribution of the next token from the trained model's; of a
    classifier or reward model, the mean squared difference of its scores over their mean square."""

    tolerance: float
    """The most that `kl_divergence` may be."""

    same_choice: float
    """Share of the places at which both rank the same token first; of a classifier, the same class."""

    largest_logit_difference: float
    base_kl_divergence: float | None
    """The same distance for the model before training, to compare with; none where that has no answers, as for weights
    that were trained whole or a new head."""
