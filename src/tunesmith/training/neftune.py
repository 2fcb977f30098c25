"""Noise on the embeddings of training rows (NEFTune): Jain et al. 2023 (arXiv 2310.05914), section 2.

B, T: shape of a batch's ids; D: width of an embedding.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tunesmith.training.batching import TextBatch


class EmbeddingNoise:
    """Uniform noise up to alpha / sqrt(L x D) either way, L the tokens of the row itself, while the model trains."""

    def __init__(self, embeddings: torch.nn.Module, alpha: float) -> None:
        self._alpha = alpha
        self._batch: TextBatch | None = None
        embeddings.register_forward_hook(self._added)

    def expect(self, batch: TextBatch) -> None:
        """Say which rows the next forward pass reads."""
        self._batch = batch

    def _added(self, embeddings: torch.nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """[B, T, D] with noise; in evaluation as it is."""
        if not embeddings.training or self._batch is None:
            return output
        noise = torch.empty_like(output).uniform_(-1, 1)
        return output + noise * self._magnitudes(self._batch, output)

    def _magnitudes(self, batch: TextBatch, output: Tensor) -> Tensor:
        """[B, T, 1]; zero at padding."""
        of_rows = torch.tensor([self._alpha / math.sqrt(length * output.shape[-1]) for length in batch.lengths])
        if batch.padding is None:
            of_tokens = of_rows.repeat_interleave(torch.tensor(batch.lengths))[None].to(output)
        else:
            of_tokens = of_rows[:, None].to(output) * batch.padding
        return of_tokens[..., None]
