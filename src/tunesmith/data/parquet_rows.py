"""Rows of a Parquet file."""

from collections.abc import Iterator
from os import SEEK_END
from typing import Any, BinaryIO

from tunesmith.spec.errors import DatasetError

_BATCH = 256

MAX_RATIO = 100
"""Unpacked bytes for each byte of the file, as for archives."""

_RATIO_FLOOR = 64 * 2**20  # below this many unpacked bytes, a ratio tells nothing


def read_parquet(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers (from 1) and rows, as lists, dictionaries and plain values; one row group is in memory at a time.

    Raises:
        DatasetError: the file is damaged, unpacks to far more than it is, or two columns have one name.
    """
    import pyarrow
    from pyarrow import parquet

    row = unpacked = 0
    limit = max(_RATIO_FLOOR, MAX_RATIO * _size(file))
    try:
        with parquet.ParquetFile(file) as table:
            groups = [table.metadata.row_group(index) for index in range(table.metadata.num_row_groups)]
            _require_below(limit, sum(group.total_byte_size for group in groups))
            names = table.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise DatasetError(f"Two columns have the name {twice!r}.")
            for batch in table.iter_batches(batch_size=_BATCH):
                unpacked += batch.nbytes  # a dictionary's values count as often as rows have them
                _require_below(limit, unpacked)
                for values in batch.to_pylist():
                    row += 1
                    yield row, values
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        behind = f"behind row {row}" if row else "from its start"
        raise DatasetError(f"The Parquet file cannot be read {behind}: {error}", hint="Write it anew.") from error


def _size(file: BinaryIO) -> int:
    size = file.seek(0, SEEK_END)
    file.seek(0)
    return size


def _require_below(limit: int, unpacked: int) -> None:
    if unpacked > limit:
        raise DatasetError(f"The Parquet file unpacks to more than {MAX_RATIO} times its size.", hint="Split it.")
