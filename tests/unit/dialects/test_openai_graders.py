import pytest

from tunesmith.dialects.openai.graders import ValidateGrader
from tunesmith.dialects.openai.reading import read_strictly
from tunesmith.spec.errors import InvalidRequestError

STRING = {"type": "string_check", "name": "s", "input": "{{ item.answer }}", "reference": "b", "operation": "ilike"}
SIMILARITY = {
    "type": "text_similarity", "name": "t", "input": "{{sample.output_text}}", "reference": "{{ item['a b'] }}",
    "evaluation_metric": "rouge_l",
}  # fmt: skip
PYTHON = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1.0\n", "image_tag": "2025"}
MESSAGE = {"role": "user", "content": "Rate {{ sample.output_json.text }}"}
SCORE = {
    "type": "score_model", "name": "m", "model": "judge", "input": [MESSAGE], "range": [0, 10],
    "sampling_params": {"seed": 1, "top_p": 0.5, "temperature": 1, "max_completions_tokens": 9},
}  # fmt: skip
LABEL = {
    "type": "label_model", "name": "l", "model": "judge", "labels": ["good", "bad"], "passing_labels": ["good"],
    "input": [
        {"role": "system", "content": {"type": "input_text", "text": "Judge."}, "type": "message"},
        {"role": "user", "content": ["{{ item.x }}", {"type": "input_image", "image_url": "{{ item.url }}"}]},
        {"role": "assistant", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
    ],
}  # fmt: skip
MULTI = {
    "type": "multi", "name": "all", "calculate_output": "0.5 * s + max(t, l) ^ 2 - inner",
    "graders": {
        "s": STRING, "t": SIMILARITY, "l": LABEL,
        "inner": {"type": "multi", "name": "inner", "graders": PYTHON, "calculate_output": "p"},
    },
}  # fmt: skip


def validate(grader):
    return read_strictly({"grader": grader}, ValidateGrader.model_validate)


@pytest.mark.parametrize("grader", [STRING, SIMILARITY, PYTHON, SCORE, MULTI], ids=lambda grader: grader["type"])
def test_a_well_formed_grader_comes_back_as_it_was(grader):
    assert validate(grader).model_dump(mode="json", exclude_unset=True) == {"grader": grader}


@pytest.mark.parametrize(
    ("grader", "param"),
    [
        ({**STRING, "operation": "is"}, "grader.operation"),
        ({**STRING, "input": "{{ item }}"}, "grader.input"),
        ({**STRING, "input": "{{ secrets.key }}"}, "grader.input"),
        ({**STRING, "input": "{{ sample.nothing }}"}, "grader.input"),
        ({**STRING, "input": "{{ item.a }"}, "grader.input"),
        ({**STRING, "reference": 5}, "grader.reference"),
        ({**STRING, "mood": "good"}, "grader.mood"),
        ({"type": "string_check"}, "grader.name"),
        ({**STRING, "type": "magic"}, "grader"),
        ({**SIMILARITY, "evaluation_metric": "rouge_6"}, "grader.evaluation_metric"),
        ({**PYTHON, "source": "def grade("}, "grader.source"),
        ({**PYTHON, "source": "x = 1"}, "grader.source"),
        ({**SCORE, "input": []}, "grader.input"),
        ({**SCORE, "input": [{**MESSAGE, "role": "robot"}]}, "grader.input.0.role"),
        ({**SCORE, "range": [1, 0]}, "grader.range"),
        ({**SCORE, "sampling_params": {"top_p": 2}}, "grader.sampling_params.top_p"),
        (LABEL, "grader"),  # only within multi
        ({**MULTI, "graders": {"s": {**STRING, "operation": "is"}}}, "grader.graders.s.operation"),
        ({**MULTI, "graders": {}}, "grader.graders"),
        ({**MULTI, "graders": {"l": {**LABEL, "passing_labels": ["so-so"]}}}, "grader.graders.l"),
        ({**MULTI, "calculate_output": "s + unknown"}, "grader"),
        ({**MULTI, "calculate_output": "__import__('os')"}, "grader"),
        ({**MULTI, "calculate_output": "s.real"}, "grader"),
        ({**MULTI, "calculate_output": "'s'"}, "grader"),
        ({**MULTI, "calculate_output": "s +"}, "grader"),
        ({**MULTI, "calculate_output": "(" * 900}, "grader"),
    ],
)
def test_a_fault_of_a_grader_is_told_by_its_path(grader, param):
    with pytest.raises(InvalidRequestError) as caught:
        validate(grader)
    assert caught.value.param is not None
    assert caught.value.param.removesuffix(".calculate_output") == param


def test_graders_may_be_nested_only_so_deep():
    grader = STRING
    for _ in range(400):
        grader = {"type": "multi", "name": "m", "graders": {"x": grader}, "calculate_output": "x"}
    with pytest.raises(InvalidRequestError):
        validate(grader)


@pytest.mark.timeout(20)  # the time grows with the length, not with its square, which would take minutes
def test_very_many_opened_braces_are_refused_soon():
    with pytest.raises(InvalidRequestError, match="braces"):
        read_strictly({"grader": {**STRING, "input": "{{" * 200_000}}, ValidateGrader.model_validate)
