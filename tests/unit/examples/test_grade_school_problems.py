import problems
import pytest
from problems import Problem, load_problems, marked_result, score


def problem(result):
    return Problem("How many?", f"Two and two.\n#### {result}")


def test_the_problems_are_split_without_overlap():
    training, held_out = load_problems()
    assert (len(training), len(held_out)) == (1119, problems.HELD_OUT)
    assert not {each.question for each in training} & {each.question for each in held_out}


def test_every_worked_answer_ends_with_its_result_and_has_no_notes_for_a_calculator():
    for each in [problem for part in load_problems() for problem in part]:
        assert marked_result(each.answer) == each.result
        assert "<<" not in each.answer


@pytest.mark.parametrize(
    ("answer", "marked", "right", "right_at_end"),
    [
        ("2 + 2 = 4\n#### 4", 1, 1, 1),
        ("#### 4.0", 1, 1, 1),
        ("#### $4", 1, 1, 1),
        ("#### 5", 1, 0, 0),
        ("#### 4 and not 5", 1, 1, 0),
        ("The answer is 4.", 0, 0, 1),
        ("I do not know.", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_an_answer_is_right_by_the_number_behind_the_mark(answer, marked, right, right_at_end):
    found = score([problem("4")], [answer])
    assert (found.total, found.marked, found.right, found.right_at_end) == (1, marked, right, right_at_end)


def test_thousands_may_be_separated():
    assert score([problem("1,250")], ["#### 1250"]).right == 1
