"""Small files that would become large ones, and tables that are wider than any use."""

import pyarrow
import pytest
from pyarrow import parquet

from tunesmith.data.validate import inspect
from tunesmith.spec.errors import DatasetError


def test_a_table_of_very_many_columns_is_refused_at_once(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(",".join(f"c{n}" for n in range(100_000)) + "\n")
    with pytest.raises(DatasetError, match="100,000 columns"):
        inspect(file)


@pytest.mark.parametrize(
    "texts",
    [["x" * 200_000_000], ["x" * 1_000_000] * 300],
    ids=["one enormous text", "one text that very many rows share"],
)
def test_parquet_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, texts):
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": texts}), file, compression="zstd")
    assert file.stat().st_size < 1_000_000
    with pytest.raises(DatasetError, match="100 times its size"):
        inspect(file)


def test_ordinary_parquet_of_repetitive_rows_is_read(tmp_path):
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["The same short text."] * 50_000}), file, compression="zstd")
    assert inspect(file).rows == 50_000
