"""Rows are shared out exactly, and always in the same way."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.data.rows import read_examples
from tunesmith.data.split import part_sizes, parts_at_random, parts_in_order
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import PARTS, SplitSpec

RATIOS = st.lists(st.integers(0, 100), min_size=1, max_size=3).filter(lambda parts: parts[0] > 0).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def lines(path, split, part, seed=0):
    return [example.line for example in read_examples(path, split=split, part=part, seed=seed)]


@given(RATIOS, st.integers(0, 500), st.integers())
def test_parts_have_their_exact_sizes(ratios, rows, seed):
    sizes = part_sizes(ratios, rows)
    assert sum(sizes) == rows
    assert all(abs(size - ratio * rows) <= 1 for size, ratio in zip(sizes, ratios, strict=True))
    assert rows == 0 or sizes[0] >= 1
    expected = Counter({part: size for part, size in zip(PARTS, sizes, strict=False) if size})
    assert Counter(parts_at_random(ratios, rows, seed)) == expected
    assert Counter(parts_in_order(ratios, rows)) == expected


@given(RATIOS, st.integers(0, 100), st.integers())
def test_the_same_seed_draws_the_same_parts(ratios, rows, seed):
    assert list(parts_at_random(ratios, rows, seed)) == list(parts_at_random(ratios, rows, seed))


def test_another_seed_draws_other_parts():
    assert list(parts_at_random((0.5, 0.5), 100, 1)) != list(parts_at_random((0.5, 0.5), 100, 2))


def test_every_row_is_drawn_as_often_as_any_other():
    drawn = Counter()
    for seed in range(2000):
        drawn.update(row for row, part in enumerate(parts_at_random((0.8, 0.2), 10, seed)) if part == "validation")
    assert all(abs(count - 400) < 100 for count in drawn.values())
    assert len(drawn) == 10


@given(RATIOS, st.integers(1, 60))
def test_an_ordered_split_cuts_the_rows_in_order(ratios, rows):
    places = [PARTS.index(part) for part in parts_in_order(ratios, rows)]
    assert places == sorted(places)


def test_parts_of_a_file_are_all_of_it_and_share_no_row(file):
    path = file([{"text": str(number)} for number in range(50)])
    for by in ("random", "sequential"):
        split = SplitSpec(by=by, ratios=(0.8, 0.1, 0.1))
        parts = [lines(path, split, part, seed=3) for part in PARTS]
        assert [len(part) for part in parts] == [40, 5, 5]
        assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(1, 51))


def test_without_a_split_all_rows_are_for_training(file):
    path = file([{"text": "a"}, {"text": "b"}])
    assert [lines(path, None, part) for part in PARTS] == [[1, 2], [], []]


def test_a_column_may_name_the_part(file):
    values = [0, "1", 2, "train", "Validation", "test", "0"]
    path = file([{"text": "a", "split": value} for value in values])
    split = SplitSpec(by="column", column="split")
    assert [lines(path, split, part) for part in PARTS] == [[1, 4, 7], [2, 5], [3, 6]]


@pytest.mark.parametrize("value", [3, "dev", None, 0.5, [0]])
def test_a_column_that_names_no_part_is_refused_with_its_line(file, value):
    path = file([{"text": "a", "split": 0}, {"text": "a", "split": value}])
    with pytest.raises(DatasetError, match=r"Line 2: the split column `split` holds") as caught:
        lines(path, SplitSpec(by="column", column="split"), "train")
    assert caught.value.param == "split.column"


def test_a_split_column_that_is_missing_is_refused_with_those_present(file):
    with pytest.raises(DatasetError, match="`fold` is missing; the row's columns: `text`"):
        lines(file([{"text": "a"}]), SplitSpec(by="column", column="fold"), "train")


def test_the_first_row_of_the_file_decides_the_shape_of_every_part(file):
    path = file([{"text": "a", "label": 0}, {"text": "b"}, {"text": "c", "label": 1}])
    split = SplitSpec(by="sequential", ratios=(1 / 3, 2 / 3))
    with pytest.raises(DatasetError, match="Line 2: `label` is missing"):
        lines(path, split, "validation")


def test_a_bad_row_of_another_part_does_not_matter(file):
    path = file([{"text": "a"}, {"text": ""}])
    split = SplitSpec(by="sequential", ratios=(0.5, 0.5))
    assert lines(path, split, "train") == [1]
    with pytest.raises(DatasetError, match="Line 2"):
        lines(path, split, "validation")


@pytest.mark.parametrize(
    "fields",
    [
        {"by": "random", "ratios": (0.8, 0.1)},
        {"by": "random", "ratios": (1.2, -0.2)},
        {"by": "random", "ratios": (0, 1)},
        {"by": "random", "ratios": ()},
        {"by": "random", "ratios": (0.25, 0.25, 0.25, 0.25)},
        {"by": "random", "ratios": (float("nan"), 1)},
        {"by": "random", "column": "split"},
        {"by": "column"},
        {"by": "chance"},
    ],
)
def test_a_split_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        SplitSpec(**fields)
