"""Faults of files and rows are found, named by line, and never dropped."""

import json

import pytest

from tunesmith.data.formats import Conversation, PromptCompletion, Text
from tunesmith.data.rows import read_examples
from tunesmith.data.validate import inspect
from tunesmith.spec.errors import DatasetError

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
GOOD = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(
            content if isinstance(content, bytes) else "".join(json.dumps(row) + "\n" for row in content).encode()
        )
        return path

    return write


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"messages": [USER, ANSWER]}, "messages"),
        ({"messages": [{"role": "developer", "content": "Be kind"}, USER, CALL, ANSWER]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}]}, "messages"),
        ({"messages": [USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1}], "tools": []}, "messages"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"prompt": [USER], "completion": [ANSWER]}, "prompt_completion"),
        ({"text": "abc", "id": 4}, "text"),
    ],
)
def test_good_rows_have_no_problems(file, row, format):
    report = inspect(file([row, row]))
    assert (report.format, report.rows, report.problem_count) == (format, 2, 0)


def test_rows_that_show_pictures_ask_for_a_model_that_reads_them(file):
    asked = [{"type": "image_url", "image_url": {"url": f"https://pictures.example/{each}.png"}} for each in "ab"]
    report = inspect(file([{"messages": [USER, ANSWER]}, {"messages": [USER | {"content": asked}, ANSWER]}]))
    assert (report.pictures, report.modality) == (2, "vision_language")
    assert inspect(file([{"messages": [USER, ANSWER]}])).modality == "text"


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"other": 1}, "messages", "missing"),
        ({"messages": []}, "messages", "empty list"),
        ({"messages": None}, "messages", "must be a list, got null"),
        ({"messages": "Hi"}, "messages", "must be a list, got a string"),
        ({"messages": [3]}, "messages[0]", "must be an object"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role", "unknown role 'bot'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "unknown role None"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages[1].content", "null"),
        ({"messages": [{"role": "user"}, ANSWER]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": 7}, ANSWER]}, "messages[0].content", "got a number"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "messages[0].content[0].image_url",
            "names no picture",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}, ANSWER]},
            "messages[0].content[0].text",
            "got null",
        ),
        ({"messages": [USER]}, "messages", "no message has the role `assistant`"),
        ({"messages": [USER, ANSWER | {"content": " \n"}]}, "messages[1].content", "empty"),
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "messages", "weight 0"),
        ({"messages": [USER, ANSWER | {"weight": 0.5}]}, "messages[1].weight", "0 or 1, got 0.5"),
        ({"messages": [USER, ANSWER | {"tool_calls": 5}]}, "messages[1].tool_calls", "list of objects, got a number"),
        ({"messages": [USER, ANSWER | {"weight": True}]}, "messages[1].weight", "0 or 1"),
        ({"messages": [USER, ANSWER], "tools": {}}, "tools", "must be a list"),
    ],
)
def test_a_bad_row_is_a_problem_with_its_line_and_field(file, row, field, reason):
    report = inspect(file([{"messages": [USER, ANSWER]}, row]))
    (problem,) = report.problems
    assert (problem.line, problem.field) == (2, field)
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("good", "bad", "field"),
    [
        ({"prompt": "a", "completion": "b"}, {"prompt": "a"}, "completion"),
        ({"prompt": "a", "completion": "b"}, {"completion": "a"}, "prompt"),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}, "completion"),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": [ANSWER]}, "prompt"),
        ({"prompt": "a", "completion": "b"}, {"prompt": [USER], "completion": [USER]}, "completion"),
        ({"text": "a"}, {"text": "  "}, "text"),
        ({"text": "a"}, {"text": None}, "text"),
        ({"text": "a"}, {}, "text"),
    ],
)
def test_bad_rows_of_plain_text_are_problems(file, good, bad, field):
    (problem,) = inspect(file([good, bad])).problems
    assert problem.field == field


def test_all_problems_are_counted_and_the_first_twenty_listed(file):
    report = inspect(file([{"messages": [USER]}] * 30))
    assert (report.problem_count, len(report.problems), report.rows) == (30, 20, 30)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n \n\r\n", "holds no rows"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (GOOD + '{"text": "é"}'.encode("latin-1"), "Line 2 is not UTF-8: byte 11 is 0xe9"),
        (json.dumps({"messages": [USER]}, indent=2).encode(), "pretty-printed"),
        (b"\x80\x04\x95", "pickle"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (GOOD + b'{"messages": [}\n', "Line 2, column 15"),
        (GOOD + b'{"messages": [1]} {"messages": [1]}\n', "Line 2, column 19"),
        (GOOD + b'"text"\n', "Line 2 is a string"),
        (GOOD + b"null\n", "Line 2 is null"),
        (GOOD + b"[1]\n", "Line 2 is a list"),
        (GOOD + b"4\n", "Line 2 is a number"),
        (b'{"text": "a", "text": "b"}\n', "'text' appears twice"),
        (b'{"text": "a", "n": NaN}\n', "NaN is not"),
        (b'{"text": "a", "n": -Infinity}\n', "-Infinity is not"),
        (b'{"text": "\\ud800"}\n', "surrogate"),
        (GOOD + b'{"text": "a"}\n', "`text` row, but the rows before it are `messages`"),
        (b'{"subject": "a", "body": "b"}\n', "`subject`, `body`"),
        (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
        (
            b'{"text": "a", "n": ' + b"9" * 5000 + b"}",
            "Line 1 cannot be used: it has an integer of more than 4,300 digits.",
        ),
        (GOOD + b'{"n": -' + b"9" * 5000 + b"}", "Line 2 cannot be used: it has an integer of more than 4,300 digits."),
        (b'[{"text": "a"}, {"n": ' + b"9" * 5000 + b"}]", "Line 2 cannot be used: it has an integer of more than"),
    ],
)
def test_a_fault_of_the_file_is_named(file, content, words):
    with pytest.raises(DatasetError) as caught:
        inspect(file(content))
    assert words in caught.value.message
    assert caught.value.hint or "Line" in caught.value.message


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_accepted(file):
    path = file(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\n" + GOOD.strip())
    assert inspect(path).rows == 2
    assert [example.line for example in read_examples(path)] == [1, 3]


def test_a_line_without_end_is_refused_in_constant_memory(file, monkeypatch):
    monkeypatch.setattr("tunesmith.data.text_lines.MAX_LINE_BYTES", 100)
    with pytest.raises(DatasetError, match="longer than"):
        inspect(file(GOOD + b'{"text": "' + b"a" * 200))


def test_unicode_line_separators_do_not_end_a_row(file):
    assert inspect(file('{"text": "a\u2028b\u0085c"}\n'.encode())).rows == 1


def test_examples_are_canonical(file):
    parts = {"role": "assistant", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}
    (chat,) = read_examples(
        file([{"messages": [USER, ANSWER | {"weight": 0}, parts | {"name": "x"}], "tools": [{"a": 1}]}])
    )
    assert isinstance(chat, Conversation)
    assert [turn.trained for turn in chat.messages] == [False, False, True]
    assert chat.messages[2].content == "Hello"
    assert chat.messages[2].fields == {"name": "x"}
    assert chat.tools == ({"a": 1},)
    assert list(read_examples(file([{"prompt": "a", "completion": "b"}]))) == [PromptCompletion(1, "a", "b")]
    assert list(read_examples(file([{"text": "a"}]))) == [Text(1, "a")]
    (turns,) = read_examples(file([{"prompt": [USER, ANSWER], "completion": [ANSWER]}]))
    assert [turn.trained for turn in turns.messages] == [False, False, True]


def test_reading_examples_raises_at_the_first_bad_row(file):
    with pytest.raises(DatasetError, match="Line 2: ") as caught:
        list(read_examples(file([{"text": "a"}, {"text": 3}])))
    assert caught.value.param == "text"
