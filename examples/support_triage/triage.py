"""The task of this example: what an answer must look like, what the rows hold, and how answers are scored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INTENTS = ("billing", "refund", "delivery", "technical", "account", "cancellation", "question", "feedback")
URGENCIES = ("low", "medium", "high")

_INSTRUCTIONS = f"""You triage customer-support messages. Answer with one JSON object and nothing else. Its keys:
"intent": one of {", ".join(f'"{intent}"' for intent in INTENTS)}.
"urgency": "high" for danger, fraud, a deadline within two days or work that stands still; "medium" if something else \
went wrong; "low" if nothing did.
"summary": at most ten words.
Example: {{"intent": "delivery", "urgency": "medium", "summary": "Parcel is late"}}"""

Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class Triage:
    """One answer in the right form."""

    intent: str
    urgency: str
    summary: str


@dataclass(frozen=True)
class Row:
    """One row of a file."""

    system: str
    message: str
    expected: Triage

    def short_prompt(self) -> Conversation:
        """What stands in the file: one line of instructions, and the message."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.message}]

    def long_prompt(self) -> Conversation:
        """All instructions and an example: of several prompts, the one that served the base model best."""
        text = f"{_INSTRUCTIONS}\n\nMessage: {self.message}\n\nJSON:"
        return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Score:
    """How many answers of one model are usable."""

    total: int
    valid: int
    """JSON with exactly the right keys and allowed values."""

    correct: int
    """Valid, with the right intent and the right urgency. Summaries are free."""

    @property
    def valid_share(self) -> float:
        """From 0 to 1."""
        return self.valid / self.total

    @property
    def correct_share(self) -> float:
        """From 0 to 1."""
        return self.correct / self.total


def load_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file of this example.

    Raises:
        ValueError: a row's answer is not in the right form.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        system, user, assistant = (message["content"] for message in json.loads(line)["messages"])
        expected = parse(assistant)
        if expected is None:
            raise ValueError(f"{path}, line {number}: the answer is not in the right form: {assistant}")
        rows.append(Row(system, user, expected))
    return rows


def parse(answer: str) -> Triage | None:
    """The answer, or none where anything is wrong with its form. Only white space may surround the JSON."""
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(value, dict) or set(value) != {"intent", "urgency", "summary"}:
        return None
    intent, urgency, summary = value["intent"], value["urgency"], value["summary"]
    if intent not in INTENTS or urgency not in URGENCIES or not isinstance(summary, str) or not summary.strip():
        return None
    return Triage(intent, urgency, summary)


def is_correct(answer: str, expected: Triage) -> bool:
    """Right form, intent and urgency."""
    given = parse(answer)
    return given is not None and (given.intent, given.urgency) == (expected.intent, expected.urgency)


def score(answers: Sequence[str], rows: Sequence[Row]) -> Score:
    """Compare answers with what their rows expect."""
    pairs = list(zip(answers, rows, strict=True))
    return Score(
        total=len(pairs),
        valid=sum(parse(answer) is not None for answer, _ in pairs),
        correct=sum(is_correct(answer, row.expected) for answer, row in pairs),
    )
