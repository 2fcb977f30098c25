"""What llama.cpp itself makes of a GGUF file, through its packaged build."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LlamaCppAnswer:
    """A greedy continuation."""

    prompt_tokens: int
    text: str


def greedy(path: Path, prompt: str, tokens: int) -> LlamaCppAnswer:
    """Load a file and continue a text."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    parameters.verbosity = -1
    told = xllamacpp.Server(parameters).handle_completions(
        {"prompt": prompt, "max_tokens": tokens, "temperature": 0.0, "cache_prompt": False}
    )
    return LlamaCppAnswer(told["usage"]["prompt_tokens"], told["choices"][0]["text"])
