"""From a decoded row to an example, as a job's `Reading` says or as the first row's keys tell."""

from collections.abc import Collection, Mapping
from typing import Any

from tunesmith.data.examples import Example, RowError
from tunesmith.data.formats import READERS, format_of_columns, other_format, row_format, used_keys
from tunesmith.data.mapping import Mapper, add_system, missing_columns, require_effect
from tunesmith.data.pictures import refuse_other_media
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import Format, Reading


class Shaper:
    """Reads rows of one shape. The first row decides on it, unless the reading does.

    Raises:
        DatasetError: on construction, if the reading contradicts itself.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._mapper = Mapper(reading)
        self.format: Format | None = reading.format or format_of_columns(reading.columns)
        self._declared = self.format is not None
        if self.format is not None:
            require_effect(reading, self.format)

    def learn(self, row: Mapping[str, Any], line: int) -> None:
        """Settle the shape of all rows by the first, which may belong to another part of the data.

        Raises:
            RowError: the row cannot tell.
            DatasetError: its shape is unknown.
        """
        if self.format is None:
            self._settle(self._mapped(row), line)

    def example(self, row: Mapping[str, Any], line: int) -> Example:
        """The row as an example.

        Raises:
            RowError: this row cannot be used.
            DatasetError: the file cannot be used: its shape is unknown, or rows have different shapes.
        """
        mapped = self._mapped(row)
        shape = self.format or self._settle(mapped, line)
        try:
            refuse_other_media(mapped)
            example = READERS[shape](mapped, line)
        except RowError as error:
            if not self._declared:
                _refuse_mixture(mapped, line, shape)
            raise self._in_words_of_user(error) from error
        return example if self._reading.system is None else add_system(example, self._reading.system)

    def ignored(self, present: Collection[str]) -> tuple[str, ...]:
        """Which of the columns have no effect."""
        used = set(self._mapper.needed)
        if self.format is not None and not self._reading.columns:
            used |= used_keys(self.format, present)
        return tuple(name for name in present if name not in used)

    def require_columns(self, present: Collection[str]) -> None:
        """See that every column that the reading names is there.

        Raises:
            DatasetError: some are not.
        """
        missing = [name for name in self._mapper.needed if name not in present]
        if missing:
            raise missing_columns(missing, list(present))

    def _settle(self, row: Mapping[str, Any], line: int) -> Format:
        shape = row_format(row, line)
        require_effect(self._reading, shape)
        self.format = shape
        return shape

    def _mapped(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._mapper.row(row)
        except RowError:
            if self.format is None:  # without its columns, a row cannot tell the shape of all
                self.require_columns(row)
            raise

    def _in_words_of_user(self, error: RowError) -> RowError:
        """The error with the columns' own names."""
        path, reason = error.path, error.reason
        for purpose, name in self._reading.columns.items():
            if path is not None and (path == purpose or path.startswith((f"{purpose}[", f"{purpose}."))):
                path = name + path.removeprefix(purpose)
            reason = reason.replace(f"`{purpose}`", f"`{name}`")
        return RowError(path, reason)


def _refuse_mixture(row: Mapping[str, Any], line: int, shape: Format) -> None:
    found = other_format(row, shape)
    if found is not None:
        raise DatasetError(
            f"Line {line} is a `{found}` row, but the rows before it are `{shape}` rows.",
            hint="Use one format throughout a file.",
        )
