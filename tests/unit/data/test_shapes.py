"""Rows of every shape become canonical examples; what cannot be used is named by its field."""

import json
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.data.examples import (
    Conversation,
    Image,
    Judged,
    Labelled,
    Preference,
    PromptCompletion,
    RowError,
    Text,
    Tokens,
)
from tunesmith.data.formats import READERS, USED_KEYS, detect_format
from tunesmith.data.shaping import Shaper
from tunesmith.data.validate import inspect
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import AS_FOUND, Format, Reading

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
OTHER = {"role": "assistant", "content": "Go away"}
SYSTEM = {"role": "system", "content": "Be kind"}


def read(row):
    return Shaper(AS_FOUND).example(row, 1)


def turns(example):
    return [(turn.role, turn.content, turn.trained) for turn in example.messages]


ASKED = [("user", "Hi", False), ("assistant", "Hello", True)]
WITH_SYSTEM = [("system", "Be kind", False), *ASKED]

CONVERSATIONS = [
    ("messages", {"messages": [USER, ANSWER]}, ASKED),
    ("messages", {"messages": [USER, ANSWER], "system": "Be kind"}, WITH_SYSTEM),
    ("messages", {"messages": [SYSTEM, USER, ANSWER], "system": "Be kind"}, WITH_SYSTEM),
    ("messages", {"messages": [USER, ANSWER], "label": "greeting"}, ASKED),
    ("messages", {"messages": [USER, ANSWER], "label": 3}, ASKED),
    ("messages", {"messages": [USER, ANSWER], "text": "all of it", "prompt": "Hi", "problem": 1}, ASKED),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, ASKED),
    ("sharegpt", {"system": "Be kind", "conversation": [{"human": "Hi", "assistant": "Hello"}]}, WITH_SYSTEM),
    ("alpaca", {"instruction": "Hi", "output": "Hello"}, ASKED),
    ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello", "system": "Be kind", "text": "x"}, WITH_SYSTEM),
    (
        "alpaca",
        {"instruction": "Sort", "input": "b, a", "output": "a, b", "history": [["Hi", "Hello"]]},
        [*ASKED, ("user", "Sort\nb, a", False), ("assistant", "a, b", True)],
    ),
    ("query_response", {"query": "Hi", "response": "Hello"}, ASKED),
    ("query_response", {"question": "Hi", "answer": "Hello", "text": "x"}, ASKED),
    ("query_response", {"prompt": "Hi", "output": "Hello", "system_prompt": "Be kind"}, WITH_SYSTEM),
    ("query_response", {"problem": "Hi", "solution": "Hello"}, ASKED),
    ("prompt_completion", {"prompt": "Hi", "completion": "Hello", "system": "Be kind"}, WITH_SYSTEM),
    ("prompt_completion", {"prompt": [USER], "completion": [ANSWER], "system": "Be kind"}, WITH_SYSTEM),
]


@pytest.mark.parametrize(("shape", "row", "expected"), CONVERSATIONS)
def test_a_row_becomes_a_conversation(shape, row, expected):
    assert detect_format(row) == shape
    example = read(row)
    assert isinstance(example, Conversation)
    assert turns(example) == expected


def test_plain_shapes_become_plain_examples():
    assert read({"prompt": "a", "completion": "b"}) == PromptCompletion(1, "a", "b")
    assert read({"text": "a", "label": "news"}) == Text(1, "a")
    assert read({"text": "a", "label": 3}) == Labelled(1, "a", 3)
    assert read({"input_ids": [1, 2], "attention_mask": [1, 1]}) == Tokens(1, (1, 2), (1, 2), (1, 1))
    assert read({"token_ids": [1, 2], "labels": [-100, 2]}) == Tokens(1, (1, 2), (-100, 2), None)
    assert read({"prompt": "a", "completion": "b", "label": False}) == Judged(1, "a", "b", good=False)


@pytest.mark.parametrize("label", [10_000, 1_000_000_000, 10**30, 10**4000], ids=["first", "32 bits", "huge", "long"])
def test_a_class_above_the_last_allowed_one_is_refused_with_its_line(tmp_path, label):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "a b", "label": each}) + "\n" for each in (0, 9_999, label)))
    report = inspect(path)
    assert report.problem_count == 1
    assert (report.problems[0].line, report.problems[0].field) == (3, "label")
    assert "from 0 to 9,999" in report.problems[0].reason
    assert len(report.problems[0].reason) < 200


@pytest.mark.parametrize("label", [-1, 1.0, "pos"])
def test_turns_without_an_answer_are_told_that_their_label_is_no_class(label):
    with pytest.raises(RowError, match="must be the number of a class") as caught:
        read({"messages": [USER], "label": label})
    assert caught.value.path == "label"


def test_a_text_of_json_with_a_number_too_long_to_read_is_refused_in_plain_words():
    with pytest.raises(RowError, match="not JSON: it has an integer of more than 4,300 digits") as caught:
        read({"messages": [USER, ANSWER], "tools": '[{"n": ' + "9" * 5000 + "}]"})
    assert caught.value.path == "tools"


def test_turns_with_a_class_are_labelled():
    example = read({"messages": [USER], "label": 2})
    assert isinstance(example, Labelled)
    assert [turn.content for turn in example.content] == ["Hi"]
    assert example.label == 2


def test_turns_that_were_judged_are_parted_before_the_answer():
    example = read({"messages": [SYSTEM, USER, ANSWER], "label": True})
    assert isinstance(example, Judged)
    assert [turn.content for turn in example.prompt] == ["Be kind", "Hi"]
    assert [(turn.content, turn.trained) for turn in example.completion] == [("Hello", True)]
    assert example.good


PREFERENCES = [
    {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
    {"input": {"messages": [USER]}, "preferred_completion": [ANSWER], "non_preferred_completion": [OTHER]},
    {"messages": [USER, ANSWER], "rejected_response": "Go away"},
    {"messages": [USER, ANSWER], "rejected_messages": [USER, OTHER]},
    {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preference_of_turns_is_one_example_in_every_spelling(row):
    assert detect_format(row) == "preference"
    assert read(row) == read(PREFERENCES[0])


def test_preference_of_text_keeps_text():
    expected = Preference(1, "Say hi.", " Hello", " Go away")
    assert read({"prompt": "Say hi.", "chosen": " Hello", "rejected": " Go away"}) == expected
    assert read({"chosen": "Say hi. Hello", "rejected": "Say hi. Go away"}) == expected


def test_preference_of_text_with_a_system_text_becomes_turns():
    example = read({"system": "Be kind", "question": "Hi", "chosen": "Hello", "rejected": "Go away"})
    assert [turn.content for turn in example.prompt] == ["Be kind", "Hi"]
    assert [turn.content for turn in (*example.chosen, *example.rejected)] == ["Hello", "Go away"]


def test_tools_come_as_a_list_as_json_text_or_as_functions():
    tool = {"type": "function", "function": {"name": "f"}}
    for spelling in ({"tools": [tool]}, {"tools": json.dumps([tool])}, {"functions": [{"name": "f"}]}):
        assert read({"messages": [USER, ANSWER], **spelling}).tools == (tool,)


def test_calls_in_sharegpt_are_calls():
    row = {
        "conversations": [
            {"from": "human", "value": "Look"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
            {"from": "observation", "value": "seen"},
            {"from": "gpt", "value": "There"},
        ],
        "tools": "[]",
    }
    example = read(row)
    assert [turn.role for turn in example.messages] == ["user", "assistant", "tool", "assistant"]
    [call] = example.messages[1].fields["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": {"at": 1}}
    assert example.tools is None


@pytest.mark.parametrize(
    ("flags", "trained"),
    [
        ({"weight": 0}, False),
        ({"train": False}, False),
        ({"loss": True}, True),
        ({"loss_scale": 0.0}, False),
        ({"weight": 1.0, "train": True}, True),
    ],
)
def test_flags_of_a_turn_are_understood_in_every_spelling(flags, trained):
    example = read({"messages": [USER, ANSWER | flags, USER, ANSWER]})
    assert example.messages[1].trained == trained
    assert example.messages[1].fields == {}


# --- pictures --------------------------------------------------------------------------------------------------------

PICTURE = Image("a.png")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "<image>Hi"}, ANSWER], "images": ["a.png"]},
        {"messages": [USER, ANSWER], "images": [{"path": "a.png", "bytes": None}]},
        {"messages": [USER, ANSWER], "image": "a.png"},
        {
            "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}, ANSWER],
            "images": ["a.png"],
        },
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, "Hi"]}, ANSWER]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}, "Hi"]},
                ANSWER,
            ]
        },
        {"query": "<image>Hi", "response": "Hello", "images": ["a.png"]},
        {"prompt": "Hi", "completion": "Hello", "image": "a.png"},
    ],
)
def test_a_picture_stands_where_the_row_puts_it(row):
    example = read(row)
    assert example.images == (PICTURE,)
    assert example.messages[0].parts == (PICTURE, "Hi")
    assert example.messages[0].content == "Hi"


def test_pictures_fill_their_places_in_order():
    row = {"messages": [{"role": "user", "content": "A <image> and <image>!"}, ANSWER], "images": ["a.png", b"PNG"]}
    assert read(row).messages[0].parts == ("A ", PICTURE, " and ", Image(b"PNG"), "!")


def test_without_pictures_a_placeholder_is_a_word():
    assert read({"messages": [{"role": "user", "content": "<image>"}, ANSWER]}).messages[0].content == "<image>"


# --- what cannot be used ---------------------------------------------------------------------------------------------

BAD = [
    ({"messages": [USER, ANSWER], "video": "a.mp4"}, "video", "`video` cannot be trained"),
    ({"messages": [USER, ANSWER], "audios": ["a.wav"]}, "audios", "`audios` cannot be trained"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, ANSWER]},
        "messages[0].content[0].type",
        "input_audio",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "table"}]}, ANSWER]},
        "messages[0].content[0].type",
        "unknown part type 'table'",
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": [{"type": "image", "url": "a"}, "x"]}]},
        "messages[1].content",
        "cannot show pictures",
    ),
    (
        {"messages": [{"role": "user", "content": "<image><image>"}, ANSWER], "images": ["a"]},
        "images",
        "lists 1 pictures, but its turns have places for 2",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]}, "image", "lists 0 pictures"),
    ({"messages": [SYSTEM, ANSWER], "images": ["a"]}, "images", "no user turn"),
    ({"messages": [USER, ANSWER], "images": "a"}, "images", "must be a list"),
    ({"messages": [USER, ANSWER], "images": [3]}, "images[0]", "got a number"),
    ({"messages": [USER, ANSWER | {"weight": 1, "train": False}]}, "messages[1]", "contradict"),
    ({"messages": [USER, ANSWER | {"train": 1}]}, "messages[1].train", "true or false, got 1"),
    ({"messages": [USER | {"train": True}, ANSWER]}, "messages[0].train", "only the assistant's can be"),
    ({"messages": [SYSTEM, USER, ANSWER], "system": "Be quick"}, "system", "keep one"),
    ({"messages": [USER, ANSWER], "system": 3}, "system", "must be a string"),
    ({"messages": [USER, ANSWER], "tools": "nothing"}, "tools", "not JSON"),
    ({"messages": [USER, ANSWER], "tools": [], "functions": []}, "functions", "both"),
    ({"conversations": []}, "conversations", "empty list"),
    ({"conversations": "Hi"}, "conversations", "must be a list"),
    ({"conversations": [{"from": "bot", "value": "x"}]}, "conversations[0].from", "unknown speaker 'bot'"),
    ({"conversations": [{"from": "gpt", "value": ""}]}, "conversations[0].value", "empty"),
    ({"conversations": [{"role": "user", "content": "x"}]}, "conversations[0]", "belong in `messages`"),
    ({"conversations": [{"from": "function_call", "value": "look"}]}, "conversations[0].value", "not JSON"),
    (
        {"conversations": [{"from": "function_call", "value": "[1]"}]},
        "conversations[0].value",
        "`name` and `arguments`",
    ),
    ({"conversation": [{"human": "Hi"}]}, "conversation[0].assistant", "got null"),
    ({"conversation": [{}]}, "conversation[0]", "`human` and `assistant`"),
    ({"instruction": "a", "output": ""}, "output", "empty"),
    ({"instruction": "a", "output": "b", "input": 3}, "input", "must be a string"),
    ({"instruction": "a", "output": "b", "history": [["x"]]}, "history[0]", "pair"),
    ({"query": "a", "response": 7}, "response", "got a number"),
    ({"query": "a", "question": "b", "response": "c"}, "question", "each could be the query"),
    ({"chosen": "a", "rejected": "a"}, "rejected", "only the beginning"),
    ({"prompt": "x", "chosen": "a", "rejected": "a"}, "rejected", "the same"),
    ({"prompt": "x", "chosen": "a", "rejected": [ANSWER]}, "rejected", "two strings or two lists"),
    ({"prompt": "Ho", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, "prompt", "no turn of `chosen` repeats"),
    ({"chosen": [USER, ANSWER], "rejected": [USER]}, "rejected", "no message has the role"),
    ({"messages": [USER], "rejected_response": "a"}, "messages", "no message has the role"),
    ({"messages": [USER, ANSWER], "rejected_response": None}, "rejected_response", "got null"),
    (
        {"input": {"messages": [3]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
        "input.messages[0]",
        "must be an object",
    ),
    ({"input": "Hi", "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}, "input", "must be an object"),
    ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, "non_preferred_output", "missing"),
    ({"token_ids": []}, "labels", "nothing to train on"),
    ({"token_ids": [1, "2"]}, "token_ids[1]", "must be an integer, got a string"),
    ({"token_ids": [1, True]}, "token_ids[1]", "got a boolean"),
    ({"token_ids": [1, -2]}, "token_ids[1]", "must be from 0"),
    ({"token_ids": [1, 2], "labels": [1]}, "labels", "1 entries for 2 tokens"),
    ({"token_ids": [1, 2], "labels": [1, -100]}, "labels", "nothing to train on"),
    ({"token_ids": [1, 2], "labels": [-5, 2]}, "labels[0]", "or -100, got -5"),
    ({"token_ids": [1, 2], "attention_mask": [1, 2]}, "attention_mask[1]", "0 or 1"),
    ({"token_ids": [1, 2], "input_ids": [1, 2]}, "input_ids", "Keep one"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD)
def test_a_row_that_cannot_be_used_is_named_by_its_field(row, field, reason):
    with pytest.raises(RowError) as caught:
        read(row)
    assert caught.value.path == field
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("good", "bad", "field", "reason"),
    [
        ({"text": "a", "label": 0}, {"text": "a", "label": -1}, "label", "integer from 0 to 9,999, got -1"),
        ({"text": "a", "label": 0}, {"text": "a", "label": 10_000}, "label", "integer from 0 to 9,999, got 10000"),
        ({"text": "a", "label": 0}, {"text": "a", "label": 10**30}, "label", "integer from 0 to 9,999, got 10000"),
        ({"text": "a", "label": 0}, {"text": "a"}, "label", "missing"),
        (
            {"messages": [USER], "label": 0},
            {"messages": [USER, ANSWER], "label": 0},
            "messages[1].role",
            "may not hold",
        ),
        ({"messages": [USER, ANSWER], "label": True}, {"messages": [USER, ANSWER]}, "label", "missing"),
        (
            {"prompt": "a", "completion": "b", "label": True},
            {"prompt": "a", "completion": "b", "label": 2},
            "label",
            "true or false",
        ),
        ({"prompt": "a", "completion": "b", "label": True}, {"prompt": "a", "label": True}, "completion", "missing"),
    ],
)
def test_a_bad_row_behind_a_good_one_is_named_by_its_field(good, bad, field, reason):
    shaper = Shaper(AS_FOUND)
    shaper.example(good, 1)
    with pytest.raises(RowError) as caught:
        shaper.example(bad, 2)
    assert caught.value.path == field
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [USER, ANSWER], "chosen": "a", "rejected": "b"}, "`messages` (by `messages`) and `preference`"),
        ({"messages": [USER, ANSWER], "conversations": []}, "`messages` (by `messages`) and `sharegpt`"),
        ({"prompt": "a", "completion": "b", "token_ids": [1]}, "`tokens` (by `token_ids`) and `prompt_completion`"),
    ],
)
def test_a_row_of_two_shapes_is_refused_with_both(row, words):
    with pytest.raises(DatasetError) as caught:
        read(row)
    assert words in caught.value.message
    assert "`format`" in caught.value.hint


def test_rows_of_several_shapes_in_one_file_are_refused():
    shaper = Shaper(AS_FOUND)
    shaper.example({"instruction": "a", "output": "b"}, 1)
    with pytest.raises(DatasetError, match="Line 2 is a `kto` row, but the rows before it are `alpaca` rows"):
        shaper.example({"prompt": "a", "completion": "b", "label": True}, 2)


def test_idle_columns_are_reported(tmp_path):
    path = tmp_path / "rows"
    rows = [
        {"query": "a", "response": "b", "source": "x"},
        {"query": "a", "response": "c", "parallel_tool_calls": True},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = inspect(path)
    assert report.columns == {"query": 2, "response": 2, "source": 1, "parallel_tool_calls": 1}
    assert report.ignored_columns == ("source", "parallel_tool_calls")


def test_every_shape_of_the_language_has_a_reader():
    assert set(READERS) == set(get_args(Format))


KEYS = sorted({*frozenset().union(*USED_KEYS.values()), "role", "content", "type", "from", "value", "human", "url"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-200, 200)
    | st.floats(allow_nan=False)
    | st.sampled_from([*KEYS, "user", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5), st.sampled_from([None, *READERS]))
@example({"messages": [{"role": [], "content": "a"}]}, None)
@example({"messages": [{"role": "user", "content": [{"type": []}]}]}, None)
@example({"conversations": [{"from": [], "value": "a"}]}, None)
def test_whatever_a_row_holds_it_is_read_or_refused_by_name(row, shape):
    with suppress(RowError, DatasetError):
        Shaper(Reading(format=shape)).example(row, 1)
