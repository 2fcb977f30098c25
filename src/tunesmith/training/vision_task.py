"""Supervised training of a vision-language model: rows of text and pictures, loss on text, in the one loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.row_pictures import RowPictures
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.plan import RowsPlan
from tunesmith.training.model import load_config, load_skeleton, load_tokenizer
from tunesmith.training.model_task import open_model
from tunesmith.training.plan_rows import planned_rows
from tunesmith.training.row_source import source_of
from tunesmith.training.sampling import prompt_tokens
from tunesmith.training.supervised_rows import TrainOn
from tunesmith.training.task import MicroBatch
from tunesmith.training.text import TokenRow
from tunesmith.training.text_rows import preparation_of, read_rows
from tunesmith.training.text_task import GroupedRows, TextTask
from tunesmith.training.vision_ahead import FollowedOrder, PassesAhead
from tunesmith.training.vision_parts import require_parts
from tunesmith.training.vision_pictures import require_decodable
from tunesmith.training.vision_processor import PictureProcessor, copy_processor
from tunesmith.training.vision_rows import PictureRow, PictureShape
from tunesmith.training.workplace import Workplace


@dataclass(eq=False)
class VisionTask(TextTask):
    """A task on text whose model reads pictures, too."""

    order: FollowedOrder

    processor_files: Path
    """A folder that holds them."""

    ahead: PassesAhead = field(default_factory=PassesAhead)

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step; those of the next are made while this one is trained."""
        batches = self.ahead.passes((sequences, self.portion), lambda: super(VisionTask, self).micro_batches(sequences))
        following = self.order.following
        if following:
            self.ahead.begin((following, self.portion), lambda: super(VisionTask, self).micro_batches(following))
        return batches

    def save(self, folder: Path) -> None:
        """Write the trained weights, exactly, the tokenizer and the processor of pictures."""
        super().save(folder)
        copy_processor(self.processor_files, folder)

    def export(self, folder: Path) -> None:
        """Write the artifact, with the processor of pictures beside it."""
        super().export(folder)
        copy_processor(self.processor_files, folder)


def survey_vision(attempt: AttemptSpec, train_on: TrainOn, poll: Callable[[], None]) -> RowsPlan | None:
    """Look at all pictures and at the first rows, and tell what all of them will come to; none while the pictures are
    not here.

    Raises:
        DatasetError: the file, one of these rows or a picture cannot be used, or none can be trained.
        ModelLoadError: the configuration, the tokenizer or the processor of pictures cannot be used.
        AdapterError: the adapter trains nothing of a part that is asked for.
        UnsupportedError: the model takes pictures in a way that cannot be trained here, or a sampled prompt shows one.
    """
    inputs = attempt.inputs
    require_parts(load_skeleton(inputs.model, attempt.spec.model), attempt.spec, continues=inputs.adapter is not None)
    tokenizer = load_tokenizer(inputs.model)
    processor = PictureProcessor(inputs.model, tokenizer)
    _require_prompts_of_text(attempt, tokenizer, processor)
    if inputs.pictures is None:
        return None
    for gathered in (inputs.pictures, inputs.validation_pictures):
        require_decodable(RowPictures(gathered), poll)
    source = source_of(attempt, "train")
    assert source is not None
    shape = _shape(attempt, train_on, processor, inputs.pictures)
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
    if attempt.inputs.adapter is not None and "parts" in attempt.spec.method.parameters:
        workplace.reporter.note("`parts` has no effect: the adapter to continue from has layers of its own.")
    opened = open_model(attempt, workplace, tokenizer, probe, rows.longest, pictures=processor)
    return VisionTask(
        opened,
        order=FollowedOrder(attempt.spec.optimization, len(rows.sequences)),
        sequences=GroupedRows(rows.train, rows.sequences),
        validation=rows.validation,
        processor_files=attempt.inputs.model,
    )


def _require_prompts_of_text(attempt: AttemptSpec, tokenizer: Any, processor: PictureProcessor) -> None:
    sampling = attempt.spec.sampling
    for number, prompt in enumerate(sampling.prompts if sampling is not None else ()):
        param = f"sampling.prompts.{number}"
        if processor.stand_for_pictures(np.array(prompt_tokens(tokenizer, prompt, param))).any():
            raise UnsupportedError(
                "A prompt has tokens that stand for a picture, and sampled prompts are text alone.",
                param=param,
                hint=f"Leave {processor.mark!r} out.",
            )


def _shape(attempt: AttemptSpec, train_on: TrainOn, processor: PictureProcessor, gathered: Path | None) -> PictureShape:
    return PictureShape(attempt.spec.method.kind, train_on, RowPictures(gathered), processor)


def _probe(train: Sequence[TokenRow], validation: Sequence[TokenRow]) -> TokenRow:
    """A row on which the model's answers are compared: the first that shows pictures, if any does."""
    return next((row for rows in (train, validation) for row in rows if isinstance(row, PictureRow)), train[0])
