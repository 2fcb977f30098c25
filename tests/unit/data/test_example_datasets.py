"""The small data sets in `examples/datasets` are what their page says."""

from pathlib import Path

import pytest

from tunesmith.data.examples import Conversation, PromptCompletion
from tunesmith.data.rows import read_examples
from tunesmith.data.validate import inspect
from tunesmith.spec.reading import Reading

FOLDER = Path(__file__).parents[3] / "examples" / "datasets"
SHAPES = {
    "messages.jsonl": "messages",
    "sharegpt.jsonl": "sharegpt",
    "alpaca.json": "alpaca",
    "query_response.jsonl": "query_response",
    "prompt_completion.jsonl": "prompt_completion",
    "text.jsonl": "text",
    "preference.jsonl": "preference",
    "preference_messages.jsonl": "preference",
    "preference_chosen.jsonl": "preference",
    "kto.jsonl": "kto",
    "classification.jsonl": "classification",
    "tokens.jsonl": "tokens",
    "pictures.jsonl": "messages",
}


def test_every_data_set_is_named_on_the_page_and_tested():
    there = {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert there == {*SHAPES, "table.csv"}
    page = (FOLDER / "README.md").read_text()
    assert all(f"| `{name}` |" in page for name in there)


@pytest.mark.parametrize(("name", "shape"), SHAPES.items(), ids=SHAPES)
def test_a_data_set_has_its_shape_no_problems_and_no_idle_columns(name, shape):
    report = inspect(FOLDER / name)
    assert (report.format, report.problem_count, report.ignored_columns, report.repeated) == (shape, 0, (), 0)
    assert 6 <= report.rows <= 12
    assert len(list(read_examples(FOLDER / name))) == report.rows


def test_the_pictures_stand_in_their_turns():
    for example in read_examples(FOLDER / "pictures.jsonl"):
        assert isinstance(example, Conversation)
        [picture] = example.images
        assert example.messages[0].parts == (picture, example.messages[0].content)


def test_the_table_is_read_with_a_template():
    reading = Reading(template="Describe a {product} of {material}:", columns={"completion": "description"})
    examples = list(read_examples(FOLDER / "table.csv", reading))
    assert examples[0] == PromptCompletion(2, "Describe a Mug of enamel:", "A light mug that survives every fall.")
    assert examples[2].completion == "Warm light\nfor long evenings."
    assert examples[3].line == 6
    assert inspect(FOLDER / "table.csv", reading).problem_count == 0
