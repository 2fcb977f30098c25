"""README.md of weights that leave a training: what they are, how they were made, and what nobody may conclude."""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.spec.export import Finish, Verification
from tunesmith.spec.job import JobSpec, QuantizationSpec

Kind = Literal["adapter", "model", "gguf"]

_LIBRARIES = ("torch", "transformers", "peft", "gguf", "tunesmith")


@dataclass(frozen=True)
class Card:
    """What a card says."""

    kind: Kind
    base_name: str
    base: str
    """What the example loads the base by: a folder or a name."""

    base_folder: Path
    """Where its licence may be told."""

    job_id: str | None
    spec: JobSpec | None
    labels: int | None
    """Scores of a sequence classifier; none for a model that writes."""

    finish: Finish | None = None
    verification: Verification | None = None
    file: str | None = None
    """Name of a GGUF file."""

    def write(self, folder: Path) -> None:
        """Write README.md into a folder."""
        parts = [
            self._head(),
            f"# Fine-tuned {'model as GGUF' if self.kind == 'gguf' else self.kind} of {self.base_name}",
            f"Made by Tunesmith{f', job `{self.job_id}`' if self.job_id else ''}.",
            f"## Use\n\n{self._use()}",
            _quantized(self.spec.model.quantization) if self.spec else "",
            self._results(),
            self._recipe(),
            f"## Limits\n\n{_LIMITS}",
            "## Made with\n\n" + "\n".join(_versions()),
        ]
        folder.joinpath("README.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")

    def _head(self) -> str:
        """What model hubs read; JSON is YAML as well."""
        facts = {
            "license": licence_of(self.base_folder),
            "base_model": self.base_name,
            "library_name": {"adapter": "peft", "model": "transformers", "gguf": "gguf"}[self.kind],
            "tags": ["tunesmith"],
        }
        return "---\n" + "\n".join(f"{name}: {json.dumps(value)}" for name, value in facts.items()) + "\n---"

    def _use(self) -> str:
        if self.kind == "gguf":
            return f"```sh\nllama-cli --model {self.file} --conversation\n```"
        name = "AutoModelForCausalLM" if self.labels is None else "AutoModelForSequenceClassification"
        labels = "" if self.labels is None else f", num_labels={self.labels}"
        code = (_LOAD_ADAPTER if self.kind == "adapter" else _LOAD_MODEL).format(
            base=self.base, name=name, labels=labels
        )
        return f"```python\n{code}\n```"

    def _results(self) -> str:
        lines = []
        if self.finish is not None:
            lines += [
                f"- optimizer steps: {self.finish.steps:,}",
                f"- last training loss: {_figure(self.finish.train_loss)}",
                f"- last validation loss: {_figure(self.finish.validation_loss)}",
            ]
        check = self.verification
        if check is not None:
            lines.append(
                f"- beside the trained model, over {check.positions} places of {check.prompts} prompts "
                f"({check.prompts_from}): {check.kl_divergence:.3g} away (allowed: {check.tolerance:g}), same first "
                f"choice at {check.same_choice:.1%}"
            )
        return "## Results\n\n" + "\n".join(lines) if lines else ""

    def _recipe(self) -> str:
        if self.spec is None:
            return ""
        return f"## Recipe\n\n```json\n{json.dumps(described(self.spec), indent=2)}\n```"


def described(spec: JobSpec) -> dict[str, object]:
    """A spec for everybody's eyes: data by their digests, without addresses, prompts and ids of secrets."""
    hidden = {"id", "secret", "region", "revision"}
    private: Any = {
        "model": {"secret"},
        "init_from": {"secret"},
        "data": {"train": hidden, "validation": hidden, "reading": {"system", "template"}, "images": {"sources"}},
        "sampling": {"prompts"},
    }
    return spec.model_dump(mode="json", exclude=private)


def licence_of(folder: Path) -> str:
    """What a model's own card says that its licence is, or `unknown`."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return "unknown"
    _, mark, rest = text.partition("---\n")
    for line in rest.partition("\n---")[0].splitlines() if mark else ():
        name, _, value = line.partition(":")
        if name == "license" and value.strip():
            return value.strip().strip("\"'")
    return "unknown"


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _quantized(quantization: QuantizationSpec | None) -> str:
    if quantization is None:
        return ""
    code = f"4 bits ({quantization.kind})" if quantization.bits == 4 else "8 bits"
    return (
        f"It was trained over the base model quantized to {code} by bitsandbytes. It fits the unquantized base "
        "model as well, whose answers differ a little."
    )


def _versions() -> list[str]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"- {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_LIMITS = (
    "Losses were measured on the data of this job alone. Nobody has examined these weights for safety, bias or truth, "
    "and what holds for the base model may not hold for them. A licence of `unknown` means that the base model's files "
    "named none: look it up before you share these."
)

_LOAD_ADAPTER = """\
from peft import PeftModel
from transformers import {name}, AutoTokenizer

base = {name}.from_pretrained("{base}"{labels})
model = PeftModel.from_pretrained(base, ".")
tokenizer = AutoTokenizer.from_pretrained(".")"""

_LOAD_MODEL = """\
from transformers import {name}, AutoTokenizer

model = {name}.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")"""
