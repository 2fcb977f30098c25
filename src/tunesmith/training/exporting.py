"""Makes an export: the trained model is asked, then written in its new form, read again, and held against that."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GgufConfig, LlamaConfig

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.spec.errors import ArtifactError
from tunesmith.spec.export import ExportSpec, Verification
from tunesmith.training.answering import Agreement, Answer, agreement, ask, base_divergence
from tunesmith.training.card import Card
from tunesmith.training.checkpoint import write_folder
from tunesmith.training.export import require_finite, save_model, save_tokenizer
from tunesmith.training.gguf_file import write_gguf
from tunesmith.training.merging import is_classifier, labels_of, load_merged, load_trained, reads_pictures
from tunesmith.training.model import load_config, load_tokenizer
from tunesmith.training.prompts import Prompts, prompts_for
from tunesmith.training.reporting import Reporter
from tunesmith.training.stop_tokens import stop_tokens

TOLERANCES = {
    "float32": 0.001,
    "float16": 0.005,
    "bfloat16": 0.02,
    "f32": 0.001,
    "f16": 0.005,
    "bf16": 0.02,
    "q8_0": 0.03,
    "q5_1": 0.15,
    "q5_0": 0.15,
    "q4_1": 0.5,
    "q4_0": 0.5,
}
"""The largest mean distance from the trained model's answers (`Verification.kl_divergence`), by number format."""

_TRAINED_IN_BFLOAT16 = 0.02
"""Added where the trained model answers in bfloat16 itself, whose rounding is part of its answers."""


def make_export(order: ExportSpec, run: RunDirectory, reporter: Reporter, poll: Callable[[], None]) -> None:
    """Write an export into the run directory and report what its check found.

    Raises:
        ArtifactError: what was written does not load, or answers otherwise than the trained model.
        TunesmithError: the model or its adapter cannot be used, or has no place in the format.
    """
    tell = _Teller(reporter, poll)
    folder = order.adapter or order.base
    tokenizer = load_tokenizer(folder)
    prompts = prompts_for(order, tokenizer, poll)
    answers = _ask(order, tokenizer, prompts, tell)
    checks: list[Verification] = []

    def fill(target: Path) -> None:
        written = _write(order, tokenizer, folder, target, tell)
        checks.append(_judged(order, prompts, answers, _verify(order, written, answers, tell)))
        _card(order, written, checks[0]).write(target)

    write_folder(run.artifact, fill, {"export": order.options.model_dump()})
    reporter.write(events.Exported, path=run.artifact.name, verification=checks[0])


def _card(order: ExportSpec, written: Path, verification: Verification) -> Card:
    return Card(
        kind="model" if written.is_dir() else "gguf",
        base_name=order.base_name,
        base=order.base_name,
        base_folder=order.base,
        job_id=order.origin.job_id if order.origin else None,
        spec=order.origin.spec if order.origin else None,
        labels=labels_of(order) if is_classifier(order) else None,
        finish=order.origin.finish if order.origin else None,
        verification=verification,
        file=None if written.is_dir() else written.name,
    )


class _Teller:
    """Reports how far a stage is, and leaves when it is asked to."""

    def __init__(self, reporter: Reporter, poll: Callable[[], None]) -> None:
        self._reporter = reporter
        self._poll = poll

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._poll()
        self._reporter.beat()
        if done * 20 // max(1, total) != (done - 1) * 20 // max(1, total):
            self._reporter.write(events.Exporting, stage=stage, done=done, total=total)


def _ask(order: ExportSpec, tokenizer: Any, prompts: Prompts, tell: _Teller) -> list[Answer]:
    model = load_trained(order, torch.bfloat16 if order.trained_dtype == "bfloat16" else torch.float32)
    return ask(
        model,
        prompts.ids,
        writes=not is_classifier(order),
        stops=sorted(stop_tokens(order.base, tokenizer)),
        poll=lambda done: tell("asking", done, len(prompts.ids)),
    )


def _write(order: ExportSpec, tokenizer: Any, folder: Path, target: Path, tell: _Teller) -> Path:
    """Returns the file or folder that holds the weights."""
    tell("merging", 0, 1)
    model = load_merged(order)
    tell("merging", 1, 1)
    if order.options.format == "merged":
        assert order.options.dtype is not None
        tell("writing", 0, 1)
        save_model(model, target, getattr(torch, order.options.dtype))
        save_tokenizer(tokenizer, target)
        if reads_pictures(order):
            from tunesmith.training.vision_processor import copy_processor

            copy_processor(order.base, target)
        require_finite(target)
        tell("writing", 1, 1)
        return target
    assert order.options.quantization is not None
    path = target / f"model-{order.options.quantization}.gguf"
    write_gguf(
        model, tokenizer, folder, order.options.quantization, order.model, path,
        lambda done, total: tell("writing", done, total),
    )  # fmt: skip
    return path


def _verify(order: ExportSpec, written: Path, answers: Sequence[Answer], tell: _Teller) -> Agreement:
    tell("verifying", 0, 1)
    try:
        model = _read_again(order, written)
    except Exception as error:
        raise ArtifactError(f"The written export does not load: {error}") from error
    found = agreement(model.eval(), answers, writes=not is_classifier(order))
    tell("verifying", 1, 1)
    return found


def _read_again(order: ExportSpec, written: Path) -> Any:
    if written.is_dir():
        return load_trained(order.model_copy(update={"base": written, "adapter": None}), torch.float32)
    # transformers reads neither the width of a head nor slowed positions from the file.
    config = load_config(order.base)
    if config.model_type == "mistral":
        # It reads no Mistral from a file; without a sliding window, that is a Llama.
        config = LlamaConfig.from_dict(config.to_dict() | {"model_type": "llama"})
    return AutoModelForCausalLM.from_pretrained(
        written.parent,
        gguf_file=written.name,
        config=config,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )


def _judged(order: ExportSpec, prompts: Prompts, answers: Sequence[Answer], found: Agreement) -> Verification:
    tolerance = TOLERANCES[order.options.numbers]
    if order.trained_dtype == "bfloat16":
        tolerance += _TRAINED_IN_BFLOAT16
    verification = Verification(
        prompts=len(prompts.ids),
        prompts_from=prompts.source,
        positions=found.positions,
        kl_divergence=found.kl_divergence,
        tolerance=tolerance,
        same_choice=found.same_choice,
        largest_logit_difference=found.largest_logit_difference,
        base_kl_divergence=base_divergence(answers, writes=not is_classifier(order)),
    )
    if not found.kl_divergence <= tolerance:
        raise ArtifactError(
            f"The export answers otherwise than the trained model: over {found.positions} places its answers are "
            f"{found.kl_divergence:.3g} nats away, and {tolerance:g} are allowed; at {found.same_choice:.1%} of them "
            "both rank the same token first.",
            hint="Choose a number format with more bits.",
        )
    return verification
