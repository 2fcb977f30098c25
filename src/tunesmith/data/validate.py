"""What is wrong with a data set, said before anything is trained."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field

from tunesmith.data.examples import Conversation, Example, Labelled, RowError
from tunesmith.data.rows import read_tables
from tunesmith.data.shaping import Shaper
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.reading import AS_FOUND, Format, Reading

MAX_PROBLEMS = 20
MAX_COLUMNS = 1_000
MAX_CLASSES = 20
MAX_REMEMBERED = 100_000
"""Different rows that are kept in mind to find repetitions: some 10 MB."""


class RowProblem(Frozen):
    """Why one row cannot be trained."""

    line: int
    """1-based line of the file; where the file has no lines, the row's number."""

    field: str | None
    """Path within the row, such as `messages[2].role`."""

    reason: str
    member: str | None = None
    """File within the archive, if the rows come in one."""


class DatasetReport(Frozen):
    """What a file holds."""

    reading: Reading = AS_FOUND
    """How its rows were understood."""

    format: Format
    rows: int
    """Rows in all, including those with problems."""

    problems: tuple[RowProblem, ...]
    """The first 20."""

    problem_count: int
    """Rows that cannot be trained."""

    container: str = "jsonl"
    """Kind of file, such as `csv` or `jsonl in zip`."""

    columns: dict[str, int] = Field(default={})
    """Names of columns, or keys, and how many rows have them."""

    ignored_columns: tuple[str, ...] = ()
    """Those that have no effect on the training."""

    lengths: dict[int, int] = Field(default={})
    """How many examples have how many characters: a key is the lowest power of two above the number of characters."""

    classes: tuple[int, ...] = ()
    """Classes of its rows, in the order of their first appearance: the first 20. None where rows have no class."""

    repeated: int = 0
    """Rows equal to an earlier one, as far as 100,000 different rows tell."""

    pictures: int = 0
    """Pictures that its rows show; one that stands in several rows counts in each."""

    @property
    def modality(self) -> Literal["text", "vision_language"]:
        """What a model that is trained on it has to read."""
        return "vision_language" if self.pictures else "text"


def inspect(path: Path, reading: Reading = AS_FOUND) -> DatasetReport:
    """Read a file once, in constant memory.

    Raises:
        DatasetError: the file as a whole cannot be used: wrong kind of file, encoding or syntax, mixed formats, or
            columns that the reading names are not there.
    """
    shaper = Shaper(reading)
    survey = _Survey()
    for table in read_tables(path):
        survey.container = table.container
        for line, row in table.rows:
            survey.look_at(row)
            try:
                survey.measure(shaper.example(row, line))
            except RowError as error:
                survey.note(RowProblem(line=line, field=error.path, reason=error.reason, member=table.member))
            except DatasetError as error:
                raise _named(error, table.member) from error
    columns = survey.columns
    shaper.require_columns(columns)
    if shaper.format is None:
        first = survey.problems[0]
        raise DatasetError(f"No row can be used. Line {first.line}: {first.reason}", param=first.field)
    return DatasetReport(
        format=shaper.format,
        rows=survey.rows,
        problems=tuple(survey.problems),
        problem_count=survey.problem_count,
        container=survey.container,
        columns=columns,
        ignored_columns=shaper.ignored(columns),
        lengths=survey.lengths,
        classes=tuple(survey.classes),
        repeated=survey.repeated,
        pictures=survey.pictures,
        reading=reading,
    )


class _Survey:
    """Counts of one pass."""

    def __init__(self) -> None:
        self.container = ""
        self.rows = 0
        self.problems: list[RowProblem] = []
        self.problem_count = 0
        self.repeated = 0
        self.pictures = 0
        self.classes: list[int] = []
        self._bits = [0] * 64
        self._known: set[int] = set()
        self._columns: Counter[str] = Counter()
        self._key_sets: Counter[tuple[str, ...]] = Counter()

    @property
    def columns(self) -> dict[str, int]:
        """Names and how many rows have them, in the order of their first appearance."""
        self._count_columns()
        return dict(self._columns)

    @property
    def lengths(self) -> dict[int, int]:
        """Histogram by powers of two."""
        return {1 << bits: count for bits, count in enumerate(self._bits) if count}

    def look_at(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        # Nearly all rows of a file have the same keys: counting them together is cheap.
        self._key_sets[tuple(row)] += 1
        if len(self._key_sets) > MAX_COLUMNS:
            self._count_columns()
        digest = _digest(row)
        if digest in self._known:
            self.repeated += 1
        elif len(self._known) < MAX_REMEMBERED:
            self._known.add(digest)

    def measure(self, example: Example) -> None:
        """Count an example's characters and pictures, and remember its class."""
        characters = example.characters
        if characters is not None:
            self._bits[characters.bit_length()] += 1
        if isinstance(example, Labelled) and example.label not in self.classes and len(self.classes) < MAX_CLASSES:
            self.classes.append(example.label)
        if isinstance(example, Conversation):
            self.pictures += len(example.images)

    def note(self, problem: RowProblem) -> None:
        """Count a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def _count_columns(self) -> None:
        for keys, count in self._key_sets.items():
            for key in keys:
                self._columns[key] += count
        self._key_sets.clear()
        if len(self._columns) > MAX_COLUMNS:
            raise DatasetError(
                f"The rows have more than {MAX_COLUMNS} different keys.", hint="Remove what is not used."
            )


def _digest(row: dict[str, Any]) -> int:
    try:
        return hash(orjson.dumps(row, default=repr))
    except TypeError:  # numbers beyond 64 bits
        return hash(repr(row))


def _named(error: DatasetError, member: str | None) -> DatasetError:
    return error if member is None else DatasetError(f"{member}: {error.message}", param=error.param, hint=error.hint)
