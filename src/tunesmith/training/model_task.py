"""What all tasks on text share: one model with a tokenizer, which is trained, written, and loaded again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from tunesmith.spec.job import AttemptSpec
from tunesmith.training import adapters, export
from tunesmith.training.batching import split_by_budget
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.model import load_classifier, load_model
from tunesmith.training.reporting import Reporter
from tunesmith.training.score_model import HEAD, ScoreModel, name_padding
from tunesmith.training.state import Progress
from tunesmith.training.text import TokenRow
from tunesmith.training.workplace import Workplace

_CPU_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model that is ready to be trained."""

    model: Any
    """The adapted model, or the model itself where all weights are trained."""

    language_model: LanguageModel
    tokenizer: Any
    card: export.ModelCard
    probe: TokenRow
    """The beginning of a row, on which the model's answers are compared."""

    base_answers: torch.Tensor | None
    """Of the probe, before training; for full tuning, where the base is gone afterwards."""

    micro_batch_size: int | None
    token_budget: int
    """Tokens of one forward pass, where no micro-batch size is asked for."""

    def grouped(self, sequences: Sequence[Sequence[TokenRow]], most: int | None) -> Iterator[list[TokenRow]]:
        """Rows of each forward pass: whole sequences, in order, up to `most` of them or as many as fit."""
        layout = self.language_model.layout
        return split_by_budget(
            sequences,
            token_budget=self.token_budget,
            max_sequences=1 if layout == "single" else most,
            padded=layout == "padded",
        )


@dataclass(eq=False)
class ModelTask:
    """The half of a task that is about the model."""

    opened: OpenedModel

    @property
    def model(self) -> Any:
        """The adapted model, or the model itself where all weights are trained."""
        return self.opened.model

    @property
    def language_model(self) -> LanguageModel:
        """How it is run."""
        return self.opened.language_model

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.language_model.device

    def stepped(self, step: int) -> None:
        """Nothing follows from a step."""

    def sample(self, progress: Progress, reporter: Reporter, poll: Callable[[], None]) -> Progress:  # noqa: ARG002
        """Nothing is asked: jobs on text with prompts are refused before."""
        return progress

    def save(self, folder: Path) -> None:
        """Write the trained weights, exactly, and the tokenizer."""
        if isinstance(self.model, PeftModel):
            adapters.save_adapter(self.model, folder, self.opened.card.base)
        else:
            export.save_model(self.model, folder, None)
        export.save_tokenizer(self.opened.tokenizer, folder)

    def load(self, folder: Path) -> None:
        """Take the trained weights back."""
        if isinstance(self.model, PeftModel):
            adapters.load_adapter(self.model, folder)
        else:
            export.load_model_weights(self.model, folder)

    def export(self, folder: Path) -> None:
        """Write the artifact: the adapter, or the model in the number format of its base."""
        if isinstance(self.model, PeftModel):
            adapters.save_adapter(self.model, folder, self.opened.card.base)
            export.write_card(self.opened.card, "adapter", folder)
        else:
            export.save_model(self.model, folder, self.language_model.dtype)
            export.write_card(self.opened.card, "model", folder)
        export.save_tokenizer(self.opened.tokenizer, folder)

    def verify(self, folder: Path) -> float:
        """Load the artifact and compare it with the base and with what was trained."""
        probe = self.language_model.batch([self.opened.probe])
        export.require_finite(folder)
        if isinstance(self.model, PeftModel):
            return export.verify_adapter(self.model, self.language_model, probe, folder)
        assert self.opened.base_answers is not None
        return export.verify_model(self.language_model, probe, folder, self.opened.base_answers)


def open_model(
    attempt: AttemptSpec,
    workplace: Workplace,
    tokenizer: Any,
    row: TokenRow,
    limit: int,
    labels: int | None = None,
) -> OpenedModel:
    """The model to train. `row` is one of those that it is trained on, which have up to `limit` tokens.

    With `labels` it is a sequence classifier with so many scores, else a model that writes.

    Raises:
        ModelLoadError: the base model cannot be used.
        AdapterError: the adapter does not fit it.
        UnsupportedError: its activations cannot be computed again, as was asked for.
    """
    spec = attempt.spec
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    adapted = spec.adapter is not None or attempt.inputs.adapter is not None
    placement = (dtype if adapted else torch.float32, workplace.device, spec.model.quantization)
    language_model: LanguageModel
    if labels is None:
        core = load_model(attempt.inputs.model, *placement)
        language_model = LanguageModel(core, workplace.device, dtype)
    else:
        core = load_classifier(attempt.inputs.model, labels, spec.optimization.seed, *placement)
        name_padding(core, tokenizer)
        language_model = ScoreModel(core, workplace.device, dtype)
    model = _with_adapter(core, attempt, workplace, None if labels is None else HEAD)
    language_model.settle()
    if language_model.slow_reason is not None:
        workplace.reporter.note(
            f"Rows are padded, not concatenated, which is slower and trains the same: {language_model.slow_reason}."
        )
    if spec.optimization.gradient_checkpointing:
        language_model.recompute_activations()
    probe = row.truncated(64)
    return OpenedModel(
        model=model,
        language_model=language_model,
        tokenizer=tokenizer,
        card=export.ModelCard(base=attempt.inputs.model, job_id=attempt.job_id, spec=spec, labels=labels),
        probe=probe,
        base_answers=None if adapted else _answers(language_model, probe),
        micro_batch_size=spec.optimization.micro_batch_size,
        token_budget=_token_budget(core, workplace.device, limit),
    )


def _with_adapter(core: Any, attempt: AttemptSpec, workplace: Workplace, head: str | None) -> Any:
    spec = attempt.spec
    if attempt.inputs.adapter is not None:
        model = adapters.adapter_to_continue(core, attempt.inputs.adapter, spec.adapter)
        changes = adapters.differences(model, spec.adapter) if spec.adapter is not None else []
        if changes:
            workplace.reporter.note(f"The adapter to continue from keeps its own shape: {', '.join(changes)}.")
        return model
    if spec.adapter is not None:
        return adapters.new_adapter(core, spec.adapter, spec.optimization.seed, head)
    return core


@torch.no_grad()
def _answers(language_model: LanguageModel, probe: TokenRow) -> torch.Tensor:
    return language_model.answers(language_model.batch([probe])).float()


def _token_budget(model: Any, device: torch.device, max_length: int) -> int:
    """Tokens of one forward pass that surely fit, at least one sequence."""
    if device.type == "cpu":
        return max(_CPU_TOKENS, max_length)
    config = model.config.get_text_config()
    width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # Kept for the backward pass, per token and layer: inputs of the linear layers, of the norms (float32) and of LoRA.
    bytes_per_token = config.num_hidden_layers * (40 * config.hidden_size + 16 * width)
    free, _ = torch.cuda.mem_get_info(device)
    return max(max_length, min(16_384, int(0.5 * free / bytes_per_token)))
