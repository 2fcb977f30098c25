"""A language model whose head gives scores to a whole text: one as a reward, or one for each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.spec.errors import ModelLoadError
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.batching import TextBatch
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.text import TokenRow

HEAD = "score"
"""What transformers calls the head of its sequence classifiers."""


class ScoreModel(LanguageModel):
    """A sequence classifier of transformers, run like a language model. K: its scores.

    The scores of a text are read where transformers reads them: at its last token that is not the padding token.
    """

    def __init__(self, core: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(core, device, dtype)
        self._padding: int | None = core.config.get_text_config().pad_token_id

    def batch(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows as tensors in the model's layout, each with the token marked at which its scores are read."""
        return super().batch([self._marked(row) for row in rows])

    def scores(self, batches: Sequence[TextBatch]) -> Tensor:
        """Scores [R, K] of each row of all batches, in float32."""
        return torch.cat([self._scored(self.hidden(batch)[batch.predictors + 1]) for batch in batches])

    def answers(self, batch: TextBatch) -> Tensor:
        """What the model's users get as `logits`, [R, K]."""
        return self.scores([batch])

    def _outputs(self, batch: TextBatch) -> Tensor:
        hidden: Tensor = self.core.base_model(**self._inputs(batch))[0]
        return self._scored(hidden.flatten(0, 1))

    def _scored(self, hidden: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            scores: Tensor = self.core.score(hidden.float())
        return scores

    def _marked(self, row: TokenRow) -> TokenRow:
        places = np.flatnonzero(row.ids != self._padding) if self._padding is not None else np.arange(row.length)
        marks = np.zeros(row.length, dtype=np.bool_)
        marks[places[-1] if len(places) else 0] = True
        return TokenRow(row.line, row.ids, marks)


def continued_scores(attempt: AttemptSpec) -> int | None:
    """How many scores the adapter to continue from gives; none where there is no such adapter.

    Raises:
        AdapterError: its head cannot be read.
    """
    if attempt.inputs.adapter is None:
        return None
    from tunesmith.training.adapters import trained_scores  # imports PEFT, which takes a while

    return trained_scores(attempt.inputs.adapter, HEAD)


def require_head(core: Any) -> None:
    """Refuse a sequence classifier that is built otherwise, and keep its head in float32.

    Raises:
        ModelLoadError: it has no linear head of the usual name.
    """
    head = getattr(core, HEAD, None)
    if type(head) is not torch.nn.Linear:
        kind = core.config.model_type
        raise ModelLoadError(f"Sequence classifiers of the type {kind!r} have no linear head named `{HEAD}`.")
    head.float()


def name_padding(core: Any, tokenizer: Any) -> None:
    """Tell a model which token is padding, if only its tokenizer knows.

    A tokenizer may pad with the token that ends a text. A model told so would never read its scores at a text's end.
    """
    config = core.config.get_text_config()
    if config.pad_token_id is None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        config.pad_token_id = tokenizer.pad_token_id
