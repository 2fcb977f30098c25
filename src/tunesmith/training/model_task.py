"""What all tasks on text share: one model with a tokenizer, which is trained, written, and loaded again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel

from tunesmith.devices import CPU, memory_bytes
from tunesmith.spec.events import Portion
from tunesmith.spec.job import AttemptSpec, Prompt, SamplingSpec
from tunesmith.training import adapters, export
from tunesmith.training.batching import split_by_budget
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.memory import Passes, choose
from tunesmith.training.memory_probe import footprint_of, kept_by
from tunesmith.training.model import load_classifier, load_model, load_vision_model
from tunesmith.training.reporting import Reporter
from tunesmith.training.sampling import Answer, generation_config, prompt_tokens, report_samples
from tunesmith.training.score_model import HEAD, ScoreModel, name_padding
from tunesmith.training.state import Progress
from tunesmith.training.stop_tokens import stop_tokens
from tunesmith.training.text import TokenRow
from tunesmith.training.vision_parts import beyond_parts, freeze_beyond_parts
from tunesmith.training.workplace import Workplace

if TYPE_CHECKING:
    from tunesmith.training.vision_processor import PictureProcessor


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

    start: Path | None
    """Folder of the adapter that is trained further; none for a new one and for full tuning."""

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

    @property
    def portion(self) -> Portion:
        """How much goes through the model at once."""
        return Portion(
            micro_batch_size=self.opened.micro_batch_size,
            token_budget=self.opened.token_budget,
            recomputing=self.language_model.recomputes,
        )

    @property
    def can_recompute(self) -> bool:
        """Whether the architecture has layers of which only the input needs to be kept."""
        return bool(self.language_model.core.supports_gradient_checkpointing)

    def take(self, portion: Portion) -> None:
        """From now on, put no more than this through the model."""
        self.opened = replace(self.opened, micro_batch_size=portion.micro_batch_size, token_budget=portion.token_budget)
        if portion.recomputing and not self.language_model.recomputes:
            self.language_model.recompute_activations()

    def answer(self, prompt: Prompt, sampling: SamplingSpec, *, of_base: bool) -> Answer:
        """Let the model go on with a prompt. Leaves it in evaluation mode."""
        self.model.eval()
        tokenizer = self.opened.tokenizer
        stops = stop_tokens(self.opened.card.base, tokenizer)
        is_hidden = of_base and self.opened.start is not None
        with self.model.disable_adapter() if is_hidden else nullcontext():
            ids = self.language_model.write(
                prompt_tokens(tokenizer, prompt, "sampling.prompts"), generation_config(tokenizer, sampling, stops)
            )
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(text=text, tokens=len(ids))

    def stepped(self, step: int) -> None:
        """Nothing follows from a step."""

    def sample(self, progress: Progress, reporter: Reporter, poll: Callable[[], None]) -> Progress:
        """Ask the model the job's prompts."""
        return report_samples(self, self.opened.card.spec, progress, reporter, poll)

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
            if self.opened.start is not None:
                adapters.require_change(self.opened.start, folder)
            return export.verify_adapter(self.model, self.language_model, probe, folder)
        assert self.opened.base_answers is not None
        return export.verify_model(self.language_model, probe, folder, self.opened.base_answers)


def open_model(
    attempt: AttemptSpec,
    workplace: Workplace,
    tokenizer: Any,
    row: TokenRow,
    longest: int,
    labels: int | None = None,
    pictures: "PictureProcessor | None" = None,
) -> OpenedModel:
    """The model to train. `row` is one of those that it is trained on; the longest sequence has `longest` tokens.

    With `labels` it is a sequence classifier with so many scores, else a model that writes; with `pictures` one that
    reads pictures too.

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
    if pictures is not None:
        from tunesmith.training.vision_memory import picture_bytes
        from tunesmith.training.vision_model import VisionModel

        core = load_vision_model(attempt.inputs.model, *placement)
        language_model = VisionModel(core, workplace.device, dtype, pictures, row)
        language_model.picture_bytes = picture_bytes(core, pictures, spec)
    elif labels is None:
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
    passes = _passes(attempt, language_model, workplace, longest)
    if passes.recompute:
        language_model.recompute_activations()
    if spec.optimization.neftune_noise_alpha is not None:
        language_model.add_noise(spec.optimization.neftune_noise_alpha)
    probe = row.beginning(64)
    return OpenedModel(
        model=model,
        language_model=language_model,
        tokenizer=tokenizer,
        card=export.ModelCard(base=attempt.inputs.model, job_id=attempt.job_id, spec=spec, labels=labels),
        probe=probe,
        base_answers=None if adapted else _answers(language_model, probe),
        micro_batch_size=spec.optimization.micro_batch_size,
        token_budget=passes.token_budget,
        start=attempt.inputs.adapter,
    )


def _with_adapter(core: Any, attempt: AttemptSpec, workplace: Workplace, head: str | None) -> Any:
    spec = attempt.spec
    if attempt.inputs.adapter is not None:
        model = adapters.adapter_to_continue(core, attempt.inputs.adapter, spec.adapter, head)
        changes = adapters.differences(model, spec.adapter) if spec.adapter is not None else []
        if changes:
            workplace.reporter.note(f"The adapter to continue from keeps its own shape: {', '.join(changes)}.")
        return model
    if spec.adapter is not None:
        outside = beyond_parts(core, spec)
        return adapters.new_adapter(core, spec.adapter, spec.optimization.seed, head, outside, workplace.poll)
    freeze_beyond_parts(core, spec)
    return core


@torch.no_grad()
def _answers(language_model: LanguageModel, probe: TokenRow) -> torch.Tensor:
    return language_model.answers(language_model.batch([probe])).float()


def _passes(attempt: AttemptSpec, language_model: LanguageModel, workplace: Workplace, longest: int) -> Passes:
    """How steps are shared out to forward passes, by the memory that there is."""
    optimization, device = attempt.spec.optimization, workplace.device
    footprint = footprint_of(language_model, kept_by(language_model), optimization, on_gpu=device.type == "cuda")
    limit = attempt.device.memory if attempt.device is not None else None
    passes = choose(
        footprint,
        memory=min(limit, _memory(device)) if limit is not None else _memory(device),
        longest=longest,
        recompute=optimization.gradient_checkpointing,
        sequences=optimization.micro_batch_size,
    )
    if passes.recompute and not optimization.gradient_checkpointing:
        workplace.reporter.note(
            "Activations are computed again in the backward pass: memory is too short to keep them."
        )
    return passes


def _memory(device: torch.device) -> int:
    """Bytes that this process may have, with those that it has."""
    if device.type == "cpu":
        return memory_bytes(CPU)
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)
