"""What a training's course depends on besides its state, as digests and versions."""

import hashlib
import platform
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tunesmith.spec.exactness import Fingerprints
from tunesmith.spec.job import AttemptSpec, DataSource
from tunesmith.training.model import device_name

_LIBRARIES = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "numpy", "safetensors", "bitsandbytes",
              "diffusers", "pillow")  # fmt: skip

# Vocabularies and merges have many names. `generation_config.json`, which tells where the model stops, is among these.
_TOKENIZER_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.model.*", "*.tiktoken", "*.bpe", "*.codes", "*.spm",
                    "*.tokenizer")  # fmt: skip
_MODEL_FILES = ("config.json", "*.index.json")

_CONFIGURATIONS = ("config.json", "model_index.json", "scheduler_config.json")

# Reading whole weights would take minutes; a file that was replaced differs here.
_SAMPLE_BYTES = 2**20


def fingerprints_of(attempt: AttemptSpec, device: torch.device) -> Fingerprints:
    """Those of an attempt on a device of this machine."""
    data = attempt.spec.data
    return Fingerprints(
        # Defaults are left out: a field that a newer version adds does not make a running job another one.
        spec=_digest(attempt.spec.model_dump_json(exclude_defaults=True)),
        data=_digest(f"{_content(data.train)} {_content(data.validation)}"),
        tokenizer=tokenizer_digest(attempt.inputs.model),
        model=_model(attempt.inputs.model),
        libraries=_libraries(),
        device=_device(device),
    )


def tokenizer_digest(folder: Path) -> str:
    """What stands for all that makes token ids and masks of a text, apart from the model's configuration."""
    return digest_of(path for path in folder.rglob("*") if _is_of_tokenizer(path))


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 of names and contents, in the order of the paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_of_tokenizer(path: Path) -> bool:
    return path.is_file() and _has_name(path, _TOKENIZER_FILES) and not _has_name(path, _MODEL_FILES)


def _has_name(path: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _content(source: DataSource | None) -> str:
    return "none" if source is None else str(source.sha256)


def _model(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for name in _CONFIGURATIONS for path in folder.rglob(name)}):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for path in sorted(folder.rglob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # some are optional
            continue
    return found


def _device(device: torch.device) -> str:
    """Sums on a processor are added in an order that depends on its vectors and threads."""
    if device.type == "cpu":
        return f"cpu with {torch.backends.cpu.get_cpu_capability()} and {torch.get_num_threads()} threads"
    return device_name(device)
