"""What is wrong with a data set, said before anything is trained."""

from pathlib import Path

from tunesmith.data.formats import READERS, Format, RowError
from tunesmith.data.rows import read_rows, row_format
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.job import Frozen

MAX_PROBLEMS = 20


class RowProblem(Frozen):
    """Why one row cannot be trained."""

    line: int
    """1-based."""

    field: str | None
    """Path within the row, such as `messages[2].role`."""

    reason: str


class DatasetReport(Frozen):
    """What a file holds."""

    format: Format
    rows: int
    """Rows in all, including those with problems."""

    problems: tuple[RowProblem, ...]
    """The first 20."""

    problem_count: int
    """Rows that cannot be trained."""


def inspect(path: Path) -> DatasetReport:
    """Read a JSON Lines file once, in constant memory.

    Raises:
        DatasetError: the file as a whole cannot be used: wrong kind of file, encoding or JSON, or mixed formats.
    """
    kind: Format | None = None
    rows = 0
    count = 0
    problems: list[RowProblem] = []
    for line, row in read_rows(path):
        kind = row_format(row, line, kind)
        rows += 1
        try:
            READERS[kind](row, line)
        except RowError as error:
            count += 1
            if len(problems) < MAX_PROBLEMS:
                problems.append(RowProblem(line=line, field=error.path, reason=error.reason))
    if kind is None:
        raise DatasetError("The file holds no rows.")
    return DatasetReport(format=kind, rows=rows, problems=tuple(problems), problem_count=count)
