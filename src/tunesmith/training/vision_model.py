"""How one vision-language model is run: like a language model, with the pictures of a batch beside its tokens."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.training.batching import TextBatch, concatenate, pad
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.text import TokenRow
from tunesmith.training.vision_processor import KINDS_OF_TOKENS, PictureProcessor
from tunesmith.training.vision_rows import PictureRow

_CPU = torch.device("cpu")


class VisionModel(LanguageModel):
    """A model that reads text and pictures, with or without an adapter inside it.

    Rows are laid out as for text. What sees a picture attends by its own function, and where positions depend on
    pictures they are the model's own, row by row.
    """

    def __init__(
        self, core: Any, device: torch.device, dtype: torch.dtype, processor: PictureProcessor, row: TokenRow
    ) -> None:
        super().__init__(core, device, dtype)
        self._processor = processor
        self._row = row
        self._known = frozenset(inspect.signature(core.forward).parameters)
        self._positions_of = getattr(core.base_model, "get_rope_index", None)

    def padded(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows below each other, with their pictures."""
        return replace(super().padded(rows), extras=self._extras(rows, pad(rows, _CPU).ids))

    def concatenated(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows behind each other, with their pictures."""
        batch, extras = super().concatenated(rows), self._extras(rows, concatenate(rows, _CPU).ids)
        positions = batch.positions if self._positions_of is None else self._own_positions(rows, extras)
        return replace(batch, positions=positions, extras=extras)

    def _inputs(self, batch: TextBatch) -> dict[str, Any]:
        inputs = super()._inputs(batch)
        # Not before: the pixels of a whole step may be more than the device has room for.
        inputs |= {name: value.to(self.device, non_blocking=True) for name, value in batch.extras.items()}
        if batch.padding is not None:
            inputs.pop("position_ids", None)  # the model's own are right for rows below each other
        return inputs

    def _extras(self, rows: Sequence[TokenRow], ids: Tensor) -> dict[str, Tensor]:
        pictures = [picture for row in rows if isinstance(row, PictureRow) for picture in row.shown.read(row.line)]
        extras = {name: each for name, each in self._processor.inputs(ids, pictures).items() if name in self._known}
        return {name: each.pin_memory() for name, each in extras.items()} if self.device.type == "cuda" else extras

    def _own_positions(self, rows: Sequence[TokenRow], extras: Mapping[str, Tensor]) -> Tensor:
        """[3, 1, T] of all rows behind each other, each as if it were alone. `extras` are those of all."""
        assert self._positions_of is not None
        taken = inspect.signature(self._positions_of).parameters
        of_pictures = [name for name in extras if name in taken and name not in KINDS_OF_TOKENS]
        found, first = [], 0
        for row in rows:
            count = len(row.shown.numbers) if isinstance(row, PictureRow) else 0
            ids = torch.from_numpy(row.ids.astype(np.int64))[None]
            stand = torch.from_numpy(self._processor.stand_for_pictures(row.ids)).long()[None]
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **dict.fromkeys(KINDS_OF_TOKENS, stand)}
            given |= {name: extras[name][first : first + count] for name in of_pictures if count}
            positions, _ = self._positions_of(**{name: value for name, value in given.items() if name in taken})
            found.append(positions)
            first += count
        return torch.cat(found, dim=-1).to(self.device)

    @property
    def _part_that_reads(self) -> str | None:
        """Name of its configuration within the model's; none if that is one and the same."""
        config = self.core.config
        text = config.get_text_config()
        return next((name for name in config.sub_configs if getattr(config, name) is text), None)

    def _attend_by(self, name: str) -> None:
        part = self._part_that_reads
        self.core.set_attn_implementation(name if part is None else {part: name})

    def _probe_rows(self) -> tuple[TokenRow, TokenRow, TokenRow]:
        """Beside rows of text one that shows pictures, if the training has such rows."""
        first, second, other = (self._without_pictures(row) for row in super()._probe_rows())
        if not isinstance(self._row, PictureRow):
            return first, second, other
        shown = self._row.beginning(len(first.ids))
        stand = self._processor.stand_for_pictures(shown.ids)
        changed = np.where(stand, shown.ids, np.resize(second.ids, len(shown.ids)))
        return shown, second, replace(shown, ids=changed.astype(np.int32))

    def _without_pictures(self, row: TokenRow) -> TokenRow:
        """The row with other tokens in the place of those that would stand for pictures."""
        stand = self._processor.stand_for_pictures(row.ids)
        return replace(row, ids=np.where(stand, row.ids[~stand][0], row.ids).astype(np.int32))
