"""Supervised training of a vision-language model: rows of text and pictures, loss on text, in the one loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.row_pictures import RowPictures
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.plan import RowsPlan
from tunesmith.training.model import load_config, load_tokenizer
from tunesmith.training.model_task import open_model
from tunesmith.training.order import DataOrder
from tunesmith.training.plan_rows import planned_rows
from tunesmith.training.row_source import source_of
from tunesmith.training.supervised_rows import TrainOn
from tunesmith.training.text import TokenRow
from tunesmith.training.text_rows import preparation_of, read_rows
from tunesmith.training.text_task import GroupedRows, TextTask
from tunesmith.training.vision_processor import PictureProcessor
from tunesmith.training.vision_rows import PictureRow, PictureShape
from tunesmith.training.workplace import Workplace


@dataclass(eq=False)
class VisionTask(TextTask):
    """A task on text whose model reads pictures, too."""

    processor: PictureProcessor

    def save(self, folder: Path) -> None:
        """Write the trained weights, exactly, the tokenizer and the processor of pictures."""
        super().save(folder)
        self.processor.copy(folder)

    def export(self, folder: Path) -> None:
        """Write the artifact, with the processor of pictures beside it."""
        super().export(folder)
        self.processor.copy(folder)


def survey_vision(attempt: AttemptSpec, train_on: TrainOn, poll: Callable[[], None]) -> RowsPlan:
    """Look at the first rows and their pictures, and tell what all of them will come to.

    Raises:
        DatasetError: the file, one of these rows or a picture cannot be used, or none can be trained.
        ModelLoadError: the configuration, the tokenizer or the processor of pictures cannot be used.
        UnsupportedError: the model takes pictures in a way that cannot be trained here.
    """
    load_config(attempt.inputs.model, attempt.spec.model.modality)
    tokenizer = load_tokenizer(attempt.inputs.model)
    source = source_of(attempt, "train")
    assert source is not None
    shape = _shape(attempt, train_on, PictureProcessor(attempt.inputs.model, tokenizer), attempt.inputs.pictures)
    return planned_rows(attempt, source, preparation_of(attempt, tokenizer, shape, poll))


def build_vision(attempt: AttemptSpec, train_on: TrainOn, workplace: Workplace) -> VisionTask:
    """Rows, pictures, model and loss.

    Raises:
        TunesmithError: the data, a picture, the model or the adapter cannot be used.
    """
    load_config(attempt.inputs.model, attempt.spec.model.modality)
    tokenizer = load_tokenizer(attempt.inputs.model)
    processor = PictureProcessor(attempt.inputs.model, tokenizer)
    shape = _shape(attempt, train_on, processor, attempt.inputs.pictures)
    scored = _shape(attempt, train_on, processor, attempt.inputs.validation_pictures)
    own = attempt.inputs.validation is not None
    rows = read_rows(attempt, tokenizer, shape, workplace, scored if own else shape)
    workplace.poll()
    probe = _probe(rows.train, rows.validation)
    opened = open_model(attempt, workplace, tokenizer, probe, rows.longest, pictures=processor)
    return VisionTask(
        opened,
        order=DataOrder(attempt.spec.optimization, len(rows.sequences)),
        sequences=GroupedRows(rows.train, rows.sequences),
        validation=rows.validation,
        processor=processor,
    )


def _shape(attempt: AttemptSpec, train_on: TrainOn, processor: PictureProcessor, gathered: Path | None) -> PictureShape:
    return PictureShape(attempt.spec.method.kind, train_on, RowPictures(gathered), processor)


def _probe(train: Sequence[TokenRow], validation: Sequence[TokenRow]) -> TokenRow:
    """A row on which the model's answers are compared: the first that shows pictures, if any does."""
    return next((row for rows in (train, validation) for row in rows if isinstance(row, PictureRow)), train[0])
