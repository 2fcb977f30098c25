"""Rows fill sequences without being cut, in the groups and order of TRL's `bfd`."""

import random

import pytest

from tunesmith.training.packing import pack


def test_rows_go_into_the_fullest_sequence_with_room():
    assert pack([5, 2, 3, 1], 5) == [(0,), (2, 1), (3,)]


def test_no_rows_give_no_sequences():
    assert pack([], 8) == []


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_their_order_equal_those_of_trl(seed):
    from datasets import Dataset
    from trl import pack_dataset

    generator = random.Random(seed)
    lengths = [generator.randint(1, 64) for _ in range(300)]
    data = Dataset.from_dict({"input_ids": [[row] * length for row, length in enumerate(lengths)]})
    packed = pack_dataset(data, 64, "bfd")["input_ids"]
    assert [tuple(dict.fromkeys(ids)) for ids in packed] == pack(lengths, 64)


def test_every_row_is_packed_once_and_none_over_the_limit():
    lengths = [random.Random(1).randint(1, 50) for _ in range(1000)]
    groups = pack(lengths, 50)
    assert sorted(row for group in groups for row in group) == list(range(1000))
    assert max(sum(lengths[row] for row in group) for group in groups) <= 50
