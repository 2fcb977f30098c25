"""Rows and examples of a file, whatever kind of file it is. In constant memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.data.archives import opened_archive, opened_gzip
from tunesmith.data.containers import GZIP, HEAD_BYTES, READERS, ZIP, Container, Rows, container_of
from tunesmith.data.examples import Example, RowError
from tunesmith.data.formats import FORMAT_HINT
from tunesmith.data.shaping import Shaper
from tunesmith.data.split import part_by_column, parts_at_random, parts_in_order
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import AS_FOUND, Part, Reading, SplitSpec


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one file, or of one member of an archive."""

    container: str
    """Kind of file, such as `csv`, `csv in zip` or `jsonl in gzip`."""

    member: str | None
    rows: Rows


def read_tables(path: Path) -> Iterator[Table]:
    """All tables of a file: one, or those in an archive in the order of their names. Read each before the next.

    Raises:
        DatasetError: the file cannot be read; the message names member and line.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if head.startswith(ZIP):
            yield from _zipped(path)
        elif head.startswith(GZIP):
            with opened_gzip(path) as unpacked:
                yield _unpacked(unpacked)
        else:
            kind = container_of(head)
            yield Table(kind, None, _some(READERS[kind](file), empty=not head))


def read_rows(path: Path) -> Iterator[tuple[str | None, int, dict[str, Any]]]:
    """Members of an archive (else none), line numbers from 1, and decoded rows.

    Raises:
        DatasetError: the file cannot be read; the message names member and line.
    """
    for table in read_tables(path):
        for line, row in table.rows:
            yield table.member, line, row


def read_examples(
    path: Path, reading: Reading = AS_FOUND, *, split: SplitSpec | None = None, part: Part = "train", seed: int = 0
) -> Iterator[Example]:
    """The examples of one part of a file, in order. Without a split, `train` is all rows and the others have none.

    Raises:
        DatasetError: the file, or a row of this part, cannot be used; the message names member and line.
    """
    shaper = Shaper(reading)
    part_of = _chooser(path, split, seed)
    for member, line, row in read_rows(path):
        with _named(member):
            try:
                shaper.learn(row, line)
                if part_of(row, line) != part:
                    continue
                example = shaper.example(row, line)
            except RowError as error:
                raise DatasetError(f"Line {line}: {error.reason}", param=error.path) from error
        yield example if member is None else replace(example, member=member)


def _chooser(path: Path, split: SplitSpec | None, seed: int) -> Callable[[dict[str, Any], int], Part]:
    """What tells the part of each row, when asked for all rows in order."""
    if split is None:
        return lambda _row, _line: "train"
    if split.by == "column":
        return lambda row, line: part_by_column(split, row, line)
    rows = sum(1 for _ in read_rows(path))
    in_order = split.by == "sequential"
    parts = parts_in_order(split.ratios, rows) if in_order else parts_at_random(split.ratios, rows, seed)
    return lambda _row, _line: next(parts)


def _zipped(path: Path) -> Iterator[Table]:
    with opened_archive(path) as archive:
        for name, kind in archive.tables():
            with _named(name), archive.opened(name, kind) as file:
                yield Table(f"{kind} in zip", name, _with_name(_some(READERS[kind](file), empty=False), name))


def _unpacked(file: BinaryIO) -> Table:
    kind: Container = container_of(file.peek(HEAD_BYTES)[:HEAD_BYTES])  # type: ignore[attr-defined]
    if kind == "parquet":
        raise DatasetError("The file is Parquet within gzip.", hint="Send it unpacked: Parquet is compressed already.")
    return Table(f"{kind} in gzip", None, _some(READERS[kind](file), empty=False))


def _some(rows: Rows, *, empty: bool) -> Rows:
    """The rows, of which there must be one."""
    first = None if empty else next(rows, None)
    if first is None:
        raise DatasetError("The file is empty." if empty else "The file holds no rows.", hint=FORMAT_HINT)
    yield first
    yield from rows


def _with_name(rows: Rows, member: str) -> Rows:
    with _named(member):
        yield from rows


@contextmanager
def _named(member: str | None) -> Iterator[None]:
    """Errors begin with the member's name."""
    try:
        yield
    except DatasetError as error:
        if member is None or error.message.startswith(member):
            raise
        raise DatasetError(f"{member}: {error.message}", param=error.param, hint=error.hint) from error
