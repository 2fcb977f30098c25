"""Supervised rows that may show pictures: one token sequence, and the pictures that some of its tokens stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from tunesmith.data.examples import Conversation, Example
from tunesmith.data.row_pictures import RowPictures
from tunesmith.spec.errors import DatasetError, RowTooLongError
from tunesmith.training.shapes import is_plain
from tunesmith.training.supervised_rows import SupervisedShape, TrainOn, only_last, throughout
from tunesmith.training.text import Encoder, TokenRow
from tunesmith.training.vision_pictures import decoded
from tunesmith.training.vision_processor import PictureProcessor


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures that a row shows, among those that were gathered."""

    gathered: RowPictures
    numbers: tuple[int, ...]

    def read(self, line: int) -> list[Image.Image]:
        """Their pixels.

        Raises:
            DatasetError: one is not what can be trained on.
        """
        return [decoded(self.gathered.read(number), line) for number in self.numbers]


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow(TokenRow):
    """A row that shows pictures. Shape T = number of its tokens."""

    shown: Shown

    reach: int
    """Tokens up to the last one that stands for a part of a picture."""

    row: int
    """Its number among the rows with pictures."""

    def truncated(self, length: int) -> "PictureRow":
        """The row's beginning.

        Raises:
            RowTooLongError: that would cut a picture.
        """
        if self.reach > length:
            raise RowTooLongError(
                f"Line {self.line}: its pictures reach to token {self.reach}, and {length} are allowed; a picture is "
                "never cut.",
                hint="Raise `max_length`, show fewer or smaller pictures, or have rows that are too long dropped.",
            )
        return replace(self, ids=self.ids[:length], trained=self.trained[:length])

    def beginning(self, length: int) -> "PictureRow":
        """So many tokens, or as many as its pictures need."""
        return self.truncated(max(length, self.reach))


@dataclass(frozen=True)
class PictureShape:
    """Conversations with and without pictures, and all that a language model learns from."""

    method: str
    train_on: TrainOn
    """As for text."""

    gathered: RowPictures
    processor: PictureProcessor

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[TokenRow]:
        """Rows of any length, in order.

        Raises:
            DatasetError: an example is of another kind or cannot be tokenised, or a picture cannot be used.
        """
        text = SupervisedShape(self.method, self.train_on)
        return [
            self._with_pictures(encoder, example)
            if isinstance(example, Conversation) and not is_plain(example)
            else self._without_pictures(text.encode(encoder, [example])[0])
            for example in examples
        ]

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        return 1

    def label_of(self, row: TokenRow) -> int:
        """The number of a row with pictures, from 1, by which they are found again; else 0."""
        return row.row if isinstance(row, PictureRow) else 0

    def row_of(self, sequences: tuple[TokenRow, ...], label: int) -> TokenRow:
        """The sequence, with the pictures of its number."""
        [row] = sequences
        return self._shown(row, label) if label else row

    def _without_pictures(self, row: TokenRow) -> TokenRow:
        if self.processor.stand_for_pictures(row.ids).any():
            raise DatasetError(
                f"Line {row.line} shows no picture, and its text has tokens that stand for one.",
                hint="Leave the mark by which the model's template shows pictures out of the text.",
            )
        return row

    def _with_pictures(self, encoder: Encoder, example: Conversation) -> PictureRow:
        number = self.gathered.row_of(example.member, example.line)
        pictures = Shown(self.gathered, self.gathered.shown_by(number)).read(example.line)

        def encode(each: Conversation) -> TokenRow:
            return encoder.tokenised(each.line, self.processor.expanded(encoder.render(each), pictures, each.line))

        row = encode(only_last(example) if self.train_on == "last" else example)
        if self.train_on == "all":
            row = throughout(encode, row, example)
        row.trained[self.processor.stand_for_pictures(row.ids)] = False
        return self._shown(row, number)

    def _shown(self, row: TokenRow, number: int) -> PictureRow:
        shown = Shown(self.gathered, self.gathered.shown_by(number))
        reach = int(np.flatnonzero(self.processor.stand_for_pictures(row.ids))[-1]) + 1
        return PictureRow(row.line, row.ids, row.trained, shown, reach, number)
