"""What the engines are to train, and how they report. Plain Python: peers run it in environments of their own."""

import json
import math
import random
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

SEED = 42
RATE = 2e-4
RANK = 16
ALPHA = 32

_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


@dataclass(frozen=True)
class Case:
    """One training."""

    name: str
    about: str
    rows: Literal["packed", "full", "short", "tokens", "pictures"]
    batch: int
    """Rows, or packed sequences, of a step."""

    length: int
    """Most tokens of a row or a packed sequence."""

    dtype: Literal["bfloat16", "float32"]
    quantized: bool
    """Whether the base is in 4 bits (nf4, double quantization)."""

    engines: tuple[str, ...]

    @property
    def tolerance(self) -> float:
        """Largest difference of a step's loss that counts as the same training."""
        return _TOLERANCE[self.dtype]


@dataclass(frozen=True)
class Order:
    """What one run of one engine is told."""

    case: Case
    engine: str
    model: str
    rows: str
    work: str
    steps: int

    def to_json(self) -> str:
        """As the child process reads it."""
        return json.dumps(asdict(self))


def read_order() -> Order:
    """The order named on the command line."""
    read = json.loads(Path(sys.argv[1]).read_text())
    case = read.pop("case")
    return Order(case=Case(**{**case, "engines": tuple(case["engines"])}), **read)


def write_result(order: Order, *, losses: Sequence[float], ends: Sequence[float], tokens: Sequence[float]) -> None:
    """Losses of the steps, when each ended (seconds since the epoch), and its tokens, where the engine counts them."""
    if len(losses) != order.steps or len(ends) != order.steps or not all(map(math.isfinite, losses)):
        sys.exit(f"{len(losses)} losses and {len(ends)} times of {order.steps} steps: {losses}")
    result = {
        "losses": list(losses),
        "ends": list(ends),
        "tokens": list(tokens),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_memory": _device_memory(),
    }
    (Path(order.work) / "result.json").write_text(json.dumps(result))


def _device_memory() -> int:
    """Peak bytes allocated on the GPU; 0 without one."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


_LORA = "LoRA r16 on all linear layers"
_TRL = ("ours", "trl_best")
_SHORT = ("ours", "trl_defaults", "trl_best")
_PACKED = f"{_LORA}, packed rows of 512 tokens, 2 a step"
_FULL = f"{_LORA}, rows of 512 tokens, 2 a step"
_FEW = f"{_LORA}, rows of 300 tokens on average, 4 a step"
CASES = {
    case.name: case
    for case in (
        Case("packed-bf16", _PACKED, "packed", 2, 512, "bfloat16", quantized=False, engines=_TRL),
        Case("packed-fp32", _PACKED, "packed", 2, 512, "float32", quantized=False, engines=_TRL),
        Case("full-bf16", _FULL, "full", 2, 512, "bfloat16", quantized=False, engines=(*_TRL, "llama_factory")),
        Case("full-fp32", _FULL, "full", 2, 512, "float32", quantized=False, engines=_TRL),
        Case("full-nf4", f"Q{_FULL}", "full", 2, 512, "bfloat16", quantized=True, engines=_TRL),
        Case("short-bf16", _FEW, "short", 4, 2048, "bfloat16", quantized=False, engines=(*_SHORT, "llama_factory")),
        Case("short-fp32", _FEW, "short", 4, 2048, "float32", quantized=False, engines=_SHORT),
        Case("short-nf4", f"Q{_FEW}", "short", 4, 2048, "bfloat16", quantized=True, engines=_SHORT),
    )
}


def write_rows(case: Case, model: Path, path: Path, steps: int) -> Path:
    """Rows from texts that ship with the project, in the order in which they are trained: a prompt with its completion,
    or for packed rows plain text."""
    path.write_text("".join(json.dumps(row) + "\n" for row in _rows(case, model, steps)))
    return path


def _rows(case: Case, model: Path, steps: int) -> list[dict[str, str]]:
    if case.rows == "packed":
        return [{"text": text} for text in _texts()]
    count = case.batch * steps
    draw = random.Random(SEED)
    lengths = [case.length] * count
    if case.rows == "short":
        lengths = short_lengths(draw, count, case.length)
    return [_row(draw, model, length) for length in lengths]


def short_lengths(draw: random.Random, count: int, most: int) -> list[int]:
    """Lengths of rows as chats have them: lognormal with a mean of 300 tokens, at least 24."""
    sigma = 0.8
    mu = math.log(300) - sigma**2 / 2  # the mean is exp(mu + sigma^2 / 2)
    return [min(max(int(draw.lognormvariate(mu, sigma)), 24), most) for _ in range(count)]


def _row(draw: random.Random, model: Path, length: int) -> dict[str, str]:
    """A row of exactly so many tokens, its end-of-text token included, of which the first quarter is the prompt."""
    words: list[str] = []
    while len(words) < 2 * length:
        words += draw.choice(_texts()).split()
    count = _tokens(model, " ".join(words[: length // 2]))
    few, many = length // 4, len(words)
    while few < many:  # the most words that fit
        middle = (few + many + 1) // 2
        count = _tokens(model, " ".join(words[:middle])) + 1
        few, many = (middle, many) if count <= length else (few, middle - 1)
    border = max(1, few // 4)
    return {"prompt": " ".join(words[:border]), "completion": " " + " ".join(words[border:few])}


_COUNTERS: dict[Path, Any] = {}


def _tokens(model: Path, text: str) -> int:
    from tokenizers import Tokenizer

    if model not in _COUNTERS:
        _COUNTERS[model] = Tokenizer.from_file(str(model / "tokenizer.json"))
    return len(_COUNTERS[model].encode(text).ids)


def _texts() -> list[str]:
    path = Path(__file__).parents[2] / "examples" / "support_triage" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return ["\n".join(message["content"] for message in row["messages"]) for row in rows]
