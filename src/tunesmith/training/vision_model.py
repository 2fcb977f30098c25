"""How one vision-language model is run: like a language model, with the pictures of a batch beside its tokens."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.training.batching import TextBatch
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.text import TokenRow
from tunesmith.training.vision_processor import PictureProcessor
from tunesmith.training.vision_rows import PictureRow


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
        self._inputs_known = frozenset(inspect.signature(core.forward).parameters)
        self._positions_of = getattr(core.base_model, "get_rope_index", None)

    def padded(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows below each other, with their pictures."""
        batch = super().padded(rows)
        return replace(batch, extras=self._extras(rows, batch.ids))

    def concatenated(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows behind each other, with their pictures."""
        batch = super().concatenated(rows)
        positions = batch.positions if self._positions_of is None else self._own_positions(rows)
        return replace(batch, positions=positions, extras=self._extras(rows, batch.ids))

    def _inputs(self, batch: TextBatch) -> dict[str, Any]:
        inputs = super()._inputs(batch)
        if batch.padding is not None:
            inputs.pop("position_ids", None)  # the model's own are right for rows below each other
        return inputs

    def _extras(self, rows: Sequence[TokenRow], ids: Tensor) -> dict[str, Tensor]:
        pictures = [picture for row in rows if isinstance(row, PictureRow) for picture in row.shown.read(row.line)]
        extras = self._processor.inputs(ids, pictures)
        return {name: value.to(self.device) for name, value in extras.items() if name in self._inputs_known}

    def _own_positions(self, rows: Sequence[TokenRow]) -> Tensor:
        """[3, 1, T] of all rows behind each other, each as if it were alone."""
        assert self._positions_of is not None
        taken = inspect.signature(self._positions_of).parameters
        found = []
        for row in rows:
            if not isinstance(row, PictureRow):
                found.append(torch.arange(row.length, device=self.device).expand(3, 1, -1))
                continue
            ids = torch.from_numpy(row.ids.astype(np.int64))[None].to(self.device)
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self._extras([row], ids)}
            positions, _ = self._positions_of(**{name: value for name, value in given.items() if name in taken})
            found.append(positions)
        return torch.cat(found, dim=-1)

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
