"""How one causal language model is run: which layout keeps rows apart, and where its logits come from.

Both are settled once per job by short probes. A model that cannot be run the fast way is run a slower, right one.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from tunesmith.spec.errors import ModelLoadError, UnsupportedError
from tunesmith.training import attention
from tunesmith.training.batching import TextBatch, concatenate, pad
from tunesmith.training.losses import (
    Sums,
    log_probs_from_hidden,
    log_probs_from_logits,
    loss_from_hidden,
    loss_from_logits,
)
from tunesmith.training.neftune import EmbeddingNoise
from tunesmith.training.quantization import without_outliers
from tunesmith.training.shortage import is_shortage
from tunesmith.training.text import TokenRow

Layout = Literal["concatenated", "padded", "single"]

_PROBE_LENGTHS = (12, 7)


class LanguageModel:
    """A causal language model, with or without an adapter inside it."""

    def __init__(self, core: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.core = core
        self.device = device
        self.dtype = dtype
        self.layout: Layout = "single"
        self.slow_reason: str | None = None
        """Why rows are not concatenated."""

        self.recomputes = False
        """Whether activations are computed again in the backward pass."""

        self.picture_bytes = 0.0
        """What pictures take in a pass at most, a token."""

        self._own_attention = self._attention
        self._takes_positions = "position_ids" in inspect.signature(core.forward).parameters
        self._head_only = False
        self._noise: EmbeddingNoise | None = None

    def settle(self) -> None:
        """Find out how the model is run. Leaves it in evaluation mode.

        Raises:
            ModelLoadError: it does not run at all.
        """
        self.core.eval()
        with torch.no_grad(), without_outliers(self.core):
            first, second, other = self._probe_rows()
            alone = self._reference([first, second])
            self._own_attention = self._attention
            if not self._settle_concatenated(first, second, other, alone):
                self.layout = "padded" if self._agrees([first, second], alone, "padded") else "single"
            self._head_only = self._head_gives_logits([first, second] if self.layout != "single" else [first])

    def recompute_activations(self) -> None:
        """Keep no more than each layer's input for the backward pass, and compute the rest again there.

        Raises:
            UnsupportedError: the architecture has no such layers.
        """
        if not self.core.supports_gradient_checkpointing:
            raise UnsupportedError(
                f"Models of the type {self.core.config.model_type!r} cannot be trained with gradient checkpointing.",
                param="optimization.gradient_checkpointing",
            )
        self.core.activation_checkpointing_enable({"use_reentrant": False, "context_fn": attention.contexts_of_layer})
        self.recomputes = True

    def add_noise(self, alpha: float) -> None:
        """Disturb the embeddings of all rows that are trained on from now on, as NEFTune does."""
        self._noise = EmbeddingNoise(self.core.get_input_embeddings(), alpha)

    def batch(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows as tensors in the model's layout."""
        return self.concatenated(rows) if self.layout == "concatenated" else self.padded(rows)

    def concatenated(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows behind each other."""
        return concatenate(rows, self.device)

    def padded(self, rows: Sequence[TokenRow]) -> TextBatch:
        """Rows below each other."""
        return pad(rows, self.device)

    def sums(self, batch: TextBatch) -> Sums:
        """Loss and hits over a batch's trained tokens."""
        if self._head_only:
            hidden = self.hidden(batch)[batch.predictors]
            return loss_from_hidden(hidden, self.core.get_output_embeddings(), batch.targets, self.dtype)
        return loss_from_logits(self.logits(batch)[batch.predictors], batch.targets)

    def batches(self, rows: Sequence[TokenRow]) -> list[TextBatch]:
        """Rows in as few batches as the model can run, in order."""
        return [self.batch([row]) for row in rows] if self.layout == "single" else [self.batch(rows)]

    def row_log_probs(self, batches: Sequence[TextBatch]) -> Tensor:
        """For each row of all batches the log-probability [R] in nats of its trained tokens together."""
        sums = [part.sum() for batch in batches for part in self._log_probs(batch).split(list(batch.trained_counts))]
        return torch.stack(sums)

    def logits(self, batch: TextBatch) -> Tensor:
        """Logits of every position, [B x T, V]."""
        with self._arithmetic(), self._within(batch):
            return self._outputs(batch)

    def answers(self, batch: TextBatch) -> Tensor:
        """What the model's users get as `logits`, [..., V] with all but the last dimension in one."""
        return self.logits(batch)

    def write(self, ids: Sequence[int], config: GenerationConfig) -> list[int]:
        """The tokens with which the model goes on. It should be in evaluation mode."""
        start = torch.tensor([ids], device=self.device)
        with self._arithmetic(), self._writing():
            whole: Tensor = self.core.generate(
                input_ids=start, attention_mask=torch.ones_like(start), generation_config=config
            )
        return whole[0, len(ids) :].tolist()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """While open, the model attends to a cache, which rows of a training have not, and has no habits of its own."""
        before, habits = self._attention, self.core.generation_config
        self._attend_by(self._own_attention)
        self.core.generation_config = GenerationConfig()
        try:
            yield
        finally:
            self.core.generation_config = habits
            self._attend_by(before)

    def _outputs(self, batch: TextBatch) -> Tensor:
        logits: Tensor = self.core(**self._inputs(batch)).logits
        return logits.flatten(0, 1)

    def _log_probs(self, batch: TextBatch) -> Tensor:
        """Log-probability [N] in nats of each trained token."""
        if self._head_only:
            hidden = self.hidden(batch)[batch.predictors]
            return log_probs_from_hidden(hidden, self.core.get_output_embeddings(), batch.targets, self.dtype)
        return log_probs_from_logits(self.logits(batch)[batch.predictors], batch.targets)

    def hidden(self, batch: TextBatch) -> Tensor:
        """States [B x T, H] that the head gets."""
        with self._arithmetic(), self._within(batch):
            hidden: Tensor = self.core.base_model(**self._inputs(batch))[0]
        return hidden.flatten(0, 1)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _within(self, batch: TextBatch) -> AbstractContextManager[Any]:
        return attention.attending_within(batch.lengths, self.device) if batch.padding is None else nullcontext()

    def _inputs(self, batch: TextBatch) -> dict[str, Any]:
        if self._noise is not None:
            self._noise.expect(batch)
        inputs: dict[str, Any] = {"input_ids": batch.ids, "use_cache": False, **batch.extras}
        if batch.padding is not None:
            inputs["attention_mask"] = batch.padding
        if self._takes_positions:
            inputs["position_ids"] = batch.positions
        return inputs

    @property
    def _attention(self) -> str:
        """The function by which tokens attend to each other."""
        name: str = self.core.config.get_text_config()._attn_implementation
        return name

    def _attend_by(self, name: str) -> None:
        self.core.set_attn_implementation(name)

    def _probe_rows(self) -> tuple[TokenRow, TokenRow, TokenRow]:
        vocabulary = self.core.get_input_embeddings().weight.shape[0]
        rows = []
        for index, length in enumerate((*_PROBE_LENGTHS, _PROBE_LENGTHS[0])):
            ids = (np.arange(length) * 7919 + 101 * index + 3) % vocabulary
            rows.append(TokenRow(0, ids.astype(np.int32), np.arange(length) > 0))
        return rows[0], rows[1], rows[2]

    def _reference(self, rows: Sequence[TokenRow]) -> list[Tensor]:
        try:
            return [self.logits(self.padded([row])) for row in rows]
        except ValueError:
            self._attend_by("eager")
        try:
            return [self.logits(self.padded([row])) for row in rows]
        except Exception as error:
            if is_shortage(error):
                raise
            raise ModelLoadError(f"The base model does not run: {error}") from error

    def _settle_concatenated(self, first: TokenRow, second: TokenRow, other: TokenRow, alone: list[Tensor]) -> bool:
        before = self._attention
        try:
            attention.register()
            self._attend_by(attention.NAME)
            self.slow_reason = self._concatenation_fault(first, second, other, alone)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way on a layout it was not made for
            self.slow_reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if self.slow_reason is None:
            self.layout = "concatenated"
            return True
        self._attend_by(before)
        return False

    def _concatenation_fault(
        self, first: TokenRow, second: TokenRow, other: TokenRow, alone: list[Tensor]
    ) -> str | None:
        config = self.core.config.get_text_config()
        if not self._takes_positions:
            return "it takes no position ids"
        if getattr(config, "attention_chunk_size", None):
            return "its attention is limited to chunks"
        batch = self.concatenated([first, second])
        with self._arithmetic(), attention.attending_within(batch.lengths, self.device) as segments:
            together = self._outputs(batch)
        if _expects_window(config) and not segments.windows_seen:
            return "its sliding window is not handed to the attention function"
        if self._apart(together, torch.cat(alone)):
            return "its attention function gives other results"
        # The same shapes give the same bits, so that even a faint trace of another row shows. Where a device adds up in
        # varying order, a repetition tells how much that makes.
        size = len(first.ids)
        noise = (self.logits(batch) - together).abs().max()
        changed_before = self.logits(self.concatenated([other, second]))[size:]
        if (changed_before - together[size:]).abs().max() > 4 * noise:
            return "a row sees the row before it"
        return None

    def _agrees(self, rows: Sequence[TokenRow], alone: list[Tensor], layout: Layout) -> bool:
        assert layout == "padded"
        batch = self.padded(rows)
        assert batch.padding is not None
        together = self.logits(batch)[batch.padding.flatten().bool()]
        return not self._apart(together, torch.cat(alone))

    def _apart(self, one: Tensor, two: Tensor) -> bool:
        """Whether two sets of logits differ by more than rounding."""
        tolerance = 1e-4 if self.dtype == torch.float32 else 3e-2
        scale = two.float().abs().max().clamp(min=1e-3)
        return not bool((one.float() - two.float()).abs().max() <= tolerance * scale)

    def _head_gives_logits(self, rows: Sequence[TokenRow]) -> bool:
        head = self.core.get_output_embeddings()
        if type(head) is not torch.nn.Linear or self.core.base_model is self.core:
            return False
        batch = self.batch(rows)
        try:
            with self._arithmetic():
                logits = head(self.hidden(batch))
        except Exception:  # noqa: BLE001 - a body that cannot be run by itself is no fault: the whole model can
            return False
        return not self._apart(logits, self.logits(batch))


def _expects_window(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return "sliding_attention" in kinds
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
