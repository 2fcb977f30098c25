"""What a job says about its rows is obeyed: shape, columns, template, system text."""

import pytest
from pydantic import ValidationError

from tunesmith.data.examples import Conversation, Judged, Labelled, Preference, PromptCompletion
from tunesmith.data.rows import read_examples
from tunesmith.data.validate import DatasetReport, inspect
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import Reading


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "table"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def turns(example):
    return [(turn.role, turn.content) for turn in example.messages]


def test_columns_are_read_under_the_names_that_were_given(table):
    path = table("ask,say,note", "a,b,c")
    reading = Reading(columns={"prompt": "ask", "completion": "say"})
    assert list(read_examples(path, reading)) == [PromptCompletion(2, "a", "b")]
    assert inspect(path, reading).ignored_columns == ("note",)


def test_a_template_makes_the_prompt(table):
    path = table("colour,thing,completion", "red,car,x")
    reading = Reading(template="{{A {colour} {thing}}}?")
    assert list(read_examples(path, reading)) == [PromptCompletion(2, "{A red car}?", "x")]
    assert inspect(path, reading).ignored_columns == ()


def test_a_template_without_columns_is_the_prompt_of_all_rows(table):
    reading = Reading(template="Say something.", columns={"completion": "b"})
    assert [each.prompt for each in read_examples(table("a,b", "1,2", "3,4"), reading)] == ["Say something."] * 2


def test_a_system_text_stands_before_rows_that_have_none(table):
    path = table("ask,say,rule", "a,b,Be quick", "a,b,")
    reading = Reading(system="Be kind", columns={"prompt": "ask", "completion": "say", "system": "rule"})
    first, second = read_examples(path, reading)
    assert turns(first) == [("system", "Be quick"), ("user", "a"), ("assistant", "b")]
    assert turns(second) == [("system", "Be kind"), ("user", "a"), ("assistant", "b")]


def test_a_system_text_makes_turns_of_every_shape_that_has_a_prompt(table):
    reading = Reading(system="Be kind", columns={"prompt": "p", "chosen": "c", "rejected": "r"})
    [preference] = read_examples(table("p,c,r", "a,b,c"), reading)
    assert isinstance(preference, Preference)
    assert [turn.role for turn in (*preference.prompt, *preference.chosen)] == ["system", "user", "assistant"]
    reading = Reading(system="Be kind", columns={"prompt": "p", "completion": "c", "label": "ok"})
    [judged] = read_examples(table("p,c,ok", "a,b,true"), reading)
    assert isinstance(judged, Judged)
    assert judged.good
    assert [turn.content for turn in judged.prompt] == ["Be kind", "a"]
    [labelled] = read_examples(table("t,l", "a,7"), Reading(system="Be kind", columns={"text": "t", "label": "l"}))
    assert isinstance(labelled, Labelled)
    assert ([turn.content for turn in labelled.content], labelled.label) == (["Be kind", "a"], 7)


@pytest.mark.parametrize("purpose", ["text", "completion"])
def test_a_picture_and_its_caption_become_turns(table, purpose):
    path = table("file,caption", "a.png,A cat")
    [example] = read_examples(path, Reading(columns={"image": "file", purpose: "caption"}))
    assert isinstance(example, Conversation)
    assert [image.source for image in example.images] == ["a.png"]
    assert turns(example) == [("user", ""), ("assistant", "A cat")]
    [asked] = read_examples(path, Reading(columns={"image": "file", purpose: "caption"}, template="What is this?"))
    assert asked.messages[0].parts == (*example.images, "What is this?")


def test_a_declared_shape_wins_over_the_keys(table):
    path = table("prompt,completion,label", "a,b,1")
    assert inspect(path).format == "kto"
    assert list(read_examples(path, Reading(format="prompt_completion"))) == [PromptCompletion(2, "a", "b")]
    assert inspect(path, Reading(format="prompt_completion")).ignored_columns == ("label",)


def test_columns_that_no_row_has_are_refused_with_those_present(table):
    reading = Reading(template="{ask} {why}", columns={"completion": "say"})
    with pytest.raises(DatasetError) as caught:
        inspect(table("ask,answer", "a,b"), reading)
    assert caught.value.message == "The rows have no column `say`, `why`; their columns: `ask`, `answer`."
    assert caught.value.param == "columns"
    with pytest.raises(DatasetError, match="Line 2: the column `say` is missing"):
        list(read_examples(table("ask,answer", "a,b"), reading))


def test_problems_carry_the_names_that_the_user_gave(table):
    [problem] = inspect(table("ask,say", "a,"), Reading(columns={"prompt": "ask", "completion": "say"})).problems
    assert (problem.field, problem.reason[:14]) == ("say", "`say` is empty")


@pytest.mark.parametrize(
    ("reading", "param"),
    [
        (Reading(format="text", system="Be kind"), "system"),
        (Reading(format="text", template="Hi"), "template"),
        (Reading(columns={"text": "a", "system": "b"}), "columns.system"),
        (Reading(system="Be kind"), "system"),
    ],
)
def test_what_would_have_no_effect_is_refused(table, reading, param):
    with pytest.raises(DatasetError) as caught:
        inspect(table("text,b", "x,y"), reading)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{a.__class__}", "{a[0]}", "{a!r}", "{a:>10}", "{a:{b}}", "{ }", "{0.a}"]
)
def test_templates_hold_plain_names_only(template):
    with pytest.raises(ValidationError, match="template"):
        Reading(template=template)


@pytest.mark.parametrize(
    "fields",
    [
        {"template": "Hi", "columns": {"prompt": "a"}},
        {"columns": {"prompt": "a", "completion": "a"}},
        {"columns": {"colour": "a"}},
        {"format": "guess"},
    ],
)
def test_a_reading_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ValidationError):
        Reading(**fields)


def test_values_without_text_cannot_stand_in_a_template(tmp_path):
    path = tmp_path / "rows"
    path.write_text('{"a": [1], "completion": "x"}\n{"a": 2.5, "completion": "x"}\n')
    [problem] = inspect(path, Reading(template="{a}", columns={"completion": "completion"})).problems
    assert (problem.line, problem.field) == (1, "a")
    assert "must be text or a number, got a list" in problem.reason


def test_a_file_without_any_row_for_the_template_is_refused(tmp_path):
    path = tmp_path / "rows"
    path.write_text('{"a": null}\n' * 3)
    with pytest.raises(DatasetError, match=r"No row can be used\. Line 1: `a` stands in the template"):
        inspect(path, Reading(template="{a}"))


def test_lengths_and_repetitions_are_counted(table):
    report = inspect(table("prompt,completion", "ab,c", "ab,c", "abcd,efgh", "x," + "y" * 1000))
    assert report.lengths == {4: 2, 16: 1, 1024: 1}
    assert report.repeated == 1


def test_a_report_stored_by_an_earlier_version_still_loads():
    old = {"format": "messages", "rows": 3, "problems": [{"line": 1, "field": None, "reason": "x"}], "problem_count": 1}
    assert DatasetReport.model_validate(old).container == "jsonl"


def test_a_report_survives_its_way_through_json(table):
    report = inspect(table("prompt,completion", "ab,c", "ab,"))
    assert DatasetReport.model_validate(report.model_dump(mode="json")) == report
    assert DatasetReport.model_validate_json(report.model_dump_json()) == report


def test_too_many_different_keys_are_refused(tmp_path):
    path = tmp_path / "rows"
    path.write_text("".join(f'{{"text": "a", "key{number}": 1}}\n' for number in range(2000)))
    with pytest.raises(DatasetError, match="more than 1000 different keys"):
        inspect(path)
