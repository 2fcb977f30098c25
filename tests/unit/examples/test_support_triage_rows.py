import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from triage import INTENTS, URGENCIES, load_rows

FILES = ("train.jsonl", "heldout.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_one_conversation_of_three_turns(folder: Path, name: str):
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert list(row) == ["messages"]
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
        assert all(set(message) == {"role", "content"} for message in row["messages"])


@pytest.mark.parametrize("name", FILES)
def test_answers_are_written_in_one_way(folder: Path, name: str):
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)["messages"][2]["content"]
        assert answer == json.dumps(json.loads(answer), ensure_ascii=False)
        assert list(json.loads(answer)) == ["intent", "urgency", "summary"]


def test_there_are_enough_rows_of_every_label(folder: Path):
    train, heldout = (load_rows(folder / name) for name in FILES)
    assert (len(train), len(heldout)) == (251, 50)
    assert len({row.system for row in train + heldout}) == 1
    for rows, least in ((train, 30), (heldout, 6)):
        counts = Counter(row.expected.intent for row in rows)
        assert set(counts) == set(INTENTS)
        assert min(counts.values()) >= least
        assert {(row.expected.intent, row.expected.urgency) for row in rows} >= {
            (intent, urgency) for intent in INTENTS for urgency in URGENCIES if rows is train
        }


def test_messages_and_summaries_are_short(folder: Path):
    for row in itertools.chain.from_iterable(load_rows(folder / name) for name in FILES):
        assert 15 <= len(row.message) <= 240
        assert 2 <= len(row.expected.summary.split()) <= 8
        assert not row.expected.summary.endswith(".")


def test_no_message_resembles_another(folder: Path):
    messages = [row.message for name in FILES for row in load_rows(folder / name)]
    trigrams = [_trigrams(message) for message in messages]
    for (one, first), (other, second) in itertools.combinations(zip(messages, trigrams, strict=True), 2):
        shared = len(first & second) / min(len(first), len(second))
        assert shared < 0.25, f"{shared:.0%} of the word triples are the same: {one!r} and {other!r}"


def _trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))
