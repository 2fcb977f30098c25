"""What a training's course depends on besides its state, as digests and versions."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tunesmith.spec.exactness import Fingerprints
from tunesmith.spec.job import AttemptSpec, DataSource
from tunesmith.training.model import device_name

_LIBRARIES = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "numpy", "safetensors", "bitsandbytes",
              "diffusers", "pillow")  # fmt: skip

_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab*",
                    "merges.txt", "*.model")  # fmt: skip

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
        tokenizer=_tokenizer(attempt.inputs.model),
        model=_model(attempt.inputs.model),
        libraries=_libraries(),
        device=_device(device),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _content(source: DataSource | None) -> str:
    return "none" if source is None else str(source.sha256)


def _tokenizer(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _TOKENIZER_FILES for path in folder.rglob(pattern) if path.is_file()}):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


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
