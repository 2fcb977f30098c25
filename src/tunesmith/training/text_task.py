"""Supervised text: rows of tokens, next-token loss, one causal language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from tunesmith.spec.job import AttemptSpec
from tunesmith.training import adapters, export
from tunesmith.training.batching import TextBatch, split_by_budget
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.losses import Sums
from tunesmith.training.model import load_model
from tunesmith.training.task import MicroBatch
from tunesmith.training.text import TokenRow
from tunesmith.training.workplace import Workplace

_CPU_TOKENS = 4096


@dataclass(eq=False)
class TextTask:
    """A model and its rows, ready for the loop."""

    model: Any
    """The adapted model, or the model itself where all weights are trained."""

    language_model: LanguageModel
    tokenizer: Any
    rows: Sequence[TokenRow]
    sequences: Sequence[tuple[int, ...]]
    """Indices into `rows` of each training sequence."""

    validation: Sequence[TokenRow]
    micro_batch_size: int | None
    token_budget: int
    card: export.ModelCard
    base_logits: torch.Tensor | None = None
    """Of the probe, before training; for full tuning, where the base is gone afterwards."""

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.language_model.device

    @property
    def sequence_count(self) -> int:
        """Training sequences of one epoch."""
        return len(self.sequences)

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step."""
        chosen = [[self.rows[row] for row in self.sequences[index]] for index in sequences]
        return list(self._batches(chosen, self.micro_batch_size))

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation."""
        return self._batches([[row] for row in self.validation], None)

    def forward(self, batch: MicroBatch) -> Sums:
        """Loss and hits of one micro-batch."""
        assert isinstance(batch, TextBatch)
        return self.language_model.sums(batch)

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these sequences come from."""
        return sorted(self.rows[row].line for index in sequences for row in self.sequences[index])

    def save(self, folder: Path) -> None:
        """Write the trained weights, exactly, and the tokenizer."""
        if isinstance(self.model, PeftModel):
            adapters.save_adapter(self.model, folder, self.card.base)
        else:
            export.save_model(self.model, folder, None)
        export.save_tokenizer(self.tokenizer, folder)

    def load(self, folder: Path) -> None:
        """Take the trained weights back."""
        if isinstance(self.model, PeftModel):
            adapters.load_adapter(self.model, folder)
        else:
            export.load_model_weights(self.model, folder)

    def export(self, folder: Path) -> None:
        """Write the artifact: the adapter, or the model in the number format of its base."""
        if isinstance(self.model, PeftModel):
            adapters.save_adapter(self.model, folder, self.card.base)
            export.write_card(self.card, "adapter", folder)
        else:
            export.save_model(self.model, folder, self.language_model.dtype)
            export.write_card(self.card, "model", folder)
        export.save_tokenizer(self.tokenizer, folder)

    def verify(self, folder: Path) -> float:
        """Load the artifact and compare it with the base and with what was trained."""
        probe = probe_batch(self.language_model, self.rows[0])
        export.require_finite(folder)
        if isinstance(self.model, PeftModel):
            return export.verify_adapter(self.model, self.language_model, probe, folder)
        assert self.base_logits is not None
        return export.verify_model(self.language_model, probe, folder, self.base_logits)

    def _batches(self, sequences: Sequence[Sequence[TokenRow]], max_sequences: int | None) -> Iterator[TextBatch]:
        layout = self.language_model.layout
        if layout == "single":
            sequences, max_sequences = [[row] for sequence in sequences for row in sequence], 1
        groups = split_by_budget(
            sequences, token_budget=self.token_budget, max_sequences=max_sequences, padded=layout == "padded"
        )
        return map(self.language_model.batch, groups)


def token_budget(model: Any, device: torch.device, max_length: int) -> int:
    """Tokens of one forward pass that surely fit, at least one sequence."""
    if device.type == "cpu":
        return max(_CPU_TOKENS, max_length)
    config = model.config.get_text_config()
    width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # Kept for the backward pass, per token and layer: inputs of the linear layers, of the norms (float32) and of LoRA.
    bytes_per_token = config.num_hidden_layers * (40 * config.hidden_size + 16 * width)
    free, _ = torch.cuda.mem_get_info(device)
    return max(max_length, min(16_384, int(0.5 * free / bytes_per_token)))


def open_model(
    attempt: AttemptSpec, workplace: Workplace, probe: TokenRow
) -> tuple[Any, LanguageModel, torch.Tensor | None]:
    """The model to train, how it is run, and, where all weights are trained, the base's logits on the probe.

    Raises:
        ModelLoadError: the base model cannot be used.
        AdapterError: the adapter does not fit it.
        UnsupportedError: its activations cannot be computed again, as was asked for.
    """
    spec = attempt.spec
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    adapted = spec.adapter is not None or attempt.inputs.adapter is not None
    stored = dtype if adapted else torch.float32
    core = load_model(attempt.inputs.model, stored, workplace.device, spec.model.quantization)
    model = core
    if attempt.inputs.adapter is not None:
        model = adapters.adapter_to_continue(core, attempt.inputs.adapter, spec.adapter)
        changes = adapters.differences(model, spec.adapter) if spec.adapter is not None else []
        if changes:
            workplace.reporter.note(f"The adapter to continue from keeps its own shape: {', '.join(changes)}.")
    elif spec.adapter is not None:
        model = adapters.new_adapter(core, spec.adapter, spec.optimization.seed)
    language_model = LanguageModel(core, workplace.device, dtype)
    language_model.settle()
    if language_model.slow_reason is not None:
        workplace.reporter.note(
            f"Rows are padded, not concatenated, which is slower and trains the same: {language_model.slow_reason}."
        )
    if spec.optimization.gradient_checkpointing:
        language_model.recompute_activations()
    if adapted:
        return model, language_model, None
    with torch.no_grad():
        return model, language_model, language_model.logits(probe_batch(language_model, probe)).float()


def probe_batch(language_model: LanguageModel, row: TokenRow) -> TextBatch:
    """The beginning of a row, on which logits are compared."""
    return language_model.batch([row.truncated(64)])
