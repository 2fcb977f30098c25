"""The sequences of a training whose rows are prepared while it runs.

A pass goes over the rows in an order of its own, cut into windows. If the job packs, a window's rows are packed among
themselves and its sequences shuffled. Batches are cut from the line of all sequences; none reaches from one pass into
the next. How many steps there are is planned once, from all rows' bytes and the first window's tokens. Where the plan
and the passes differ by some steps, another pass is begun, or the last one not ended.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.spec.errors import CheckpointError
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.optim import count_steps
from tunesmith.training.packing import pack
from tunesmith.training.preparation import Preparation
from tunesmith.training.receipt import SAMPLES
from tunesmith.training.row_block import BlockRows, joined
from tunesmith.training.row_source import RowSource
from tunesmith.training.scaling import longest_of_all
from tunesmith.training.seen import Seen, seen_in
from tunesmith.training.text import TokenRow
from tunesmith.training.windows import PIECE_ROWS, Pieces

_SEQUENCES = 16
"""So many full sequences a window holds where the job packs: fewer would leave too much of them empty."""

_MOST_PIECES = 16
_REMEMBERED = 3
"""Steps that may be asked for again: the one under way, and those whose figures are not read yet."""


class Place(Frozen):
    """Between two steps: the next sequence."""

    window: int = 0
    """Through all passes."""

    sequence: int = 0
    """Within the window."""

    rows: int = 0
    """Trained so far; a row counts once in each pass."""


class StreamState(Frozen):
    """What a checkpoint keeps."""

    place: Place
    windows: int
    """Windows that `seen` counts, all of the first pass."""

    seen: Seen


@dataclass(frozen=True, eq=False)
class _Window:
    """The prepared rows of a window."""

    rows: BlockRows[TokenRow]
    groups: Sequence[tuple[int, ...]]
    """Rows of each sequence, in the order of training."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        tokens = self.rows.tokens
        return [sum(tokens[row] for row in group) for group in self.groups]


@dataclass(frozen=True)
class Plan:
    """What was expected before the first step."""

    rows: int
    """Rows that were looked at for it."""

    sequences: int
    """Of a pass."""

    tokens: int
    trained_tokens: int
    """Of a pass."""

    longest: int
    """Tokens of a sequence for which memory is to suffice, allowing for longer ones than these."""


class StreamOrder:
    """An `Order` that also holds the sequences of its last few steps.

    Raises:
        TunesmithError: on construction, if a row of the first window cannot be used, or no row can be trained.
    """

    def __init__(
        self,
        pieces: Pieces,
        source: RowSource,
        preparation: Preparation[TokenRow],
        optimization: OptimizationSpec,
        *,
        packing: bool,
        report: Callable[["StreamOrder"], None],
    ) -> None:
        self._pieces = pieces
        self._preparation = preparation
        self._optimization = optimization
        self._packing = packing
        self._report = report
        self._windows: dict[int, _Window] = {}
        self._counted = 0
        self._pieces_of_window = self._measured() if packing else 1
        self._size = PIECE_ROWS * self._pieces_of_window
        self._per_pass = math.ceil(pieces.per_pass / self._pieces_of_window)
        self._places: dict[int, Place] = {0: Place()}
        self._batches: dict[int, list[int]] = {}
        self.plan = self._planned(source)
        self.samples = self._opened(max(self._windows)).rows.first(SAMPLES)
        """The first rows of the training."""

        self.total = count_steps(optimization, self.plan.sequences)

    @property
    def rows(self) -> int:
        """Rows of a pass, also those that take no part."""
        return len(self._pieces.rows)

    @property
    def seen(self) -> Seen:
        """What was prepared so far, each row once."""
        return self._preparation.seen

    @property
    def step(self) -> int:
        """Steps so far, of this attempt and those before it."""
        return max(self._places)

    @property
    def place(self) -> Place:
        """Behind the last step."""
        return self._places[self.step]

    def __getitem__(self, sequence: int) -> list[TokenRow]:
        """The rows of a sequence of one of the last steps."""
        window, index = divmod(sequence, self._size)
        opened = self._windows[window]
        return [opened.rows[row] for row in opened.groups[index]]

    def batch(self, step: int) -> list[int]:
        """Sequences of the step with this index, from 0.

        Raises:
            DatasetError: a row cannot be used.
        """
        if step not in self._batches:
            self._batches[step], self._places[step + 1] = self._drawn(self._places[step])
            self._forget(step)
        return self._batches[step]

    def epochs_after(self, step: int) -> float:
        """Passes over the data completed by this many steps, by the rows that were reached."""
        place = self._places[step]
        epoch, within = divmod(place.window, self._per_pass)
        reached = float(within * self._size)
        if place.sequence:
            share = place.sequence / len(self._windows[place.window].groups)
            reached += share * min(self._size, self.rows - reached)
        return epoch + reached / self.rows

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this many steps done."""
        place = self._places[step]
        return place.sequence == 0 and place.window > 0 and place.window % self._per_pass == 0

    def state(self, step: int) -> dict[str, Any]:
        """Where the training is, and what was seen. What was prepared so far is left on disk as well."""
        self._pieces.keep()
        return StreamState(place=self._places[step], windows=self._counted, seen=self.seen).model_dump()

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on after this many steps.

        Raises:
            CheckpointError: the state is that of another order.
        """
        if not state:
            raise CheckpointError("It has no position in the data, whose rows are prepared as the training goes on.")
        known = StreamState.model_validate(state)
        self._preparation.seen, self._counted = known.seen, known.windows
        self._places, self._batches = {step: known.place}, {}
        self._windows = {}
        if known.place.sequence:
            self._opened(known.place.window)

    def finish(self) -> None:
        """Report what was seen, after the last step."""
        self._report(self)

    def close(self) -> None:
        """End the helpers."""
        self._pieces.close()

    def _measured(self) -> int:
        """Pieces of a window, by the tokens of the first."""
        tokens = len(self._pieces.block(0).tokens)
        needed = math.ceil(_SEQUENCES * self._preparation.max_length / max(1, tokens))
        return min(needed, _MOST_PIECES, self._pieces.per_pass)

    def _planned(self, source: RowSource) -> Plan:
        """Look at windows until one has a row that can be trained; most often that is the first."""
        window = 0
        while not self._opened(window).groups:
            window += 1
            if window == self._per_pass:
                raise self._preparation.nothing(source)
        rows, seen = self._pieces.rows, self.seen
        numbers = np.concatenate([self._pieces.numbers(piece) for each in self._windows for piece in self._in(each)])
        share = rows.bytes / rows.bytes_of(numbers)
        lengths = [length for opened in self._windows.values() for length in opened.lengths]
        return Plan(
            rows=len(numbers),
            sequences=max(1, round(len(lengths) * (share if self._packing else len(rows) / len(numbers)))),
            tokens=round(seen.tokens * share),
            trained_tokens=round(seen.trained_tokens * share),
            longest=longest_of_all(max(lengths), self._preparation.max_length),
        )

    def _drawn(self, place: Place) -> tuple[list[int], Place]:
        """The next batch, and the place behind it."""
        chosen: list[int] = []
        window, sequence, rows = place.window, place.sequence, place.rows
        while True:
            groups = self._opened(window).groups
            taken = groups[sequence : sequence + self._optimization.batch_size - len(chosen)]
            chosen += range(window * self._size + sequence, window * self._size + sequence + len(taken))
            rows += sum(map(len, taken))
            sequence += len(taken)
            if sequence < len(groups):
                return chosen, Place(window=window, sequence=sequence, rows=rows)
            window, sequence = window + 1, 0
            if chosen and window % self._per_pass == 0:
                return chosen, Place(window=window, rows=rows)

    def _opened(self, window: int) -> _Window:
        if window not in self._windows:
            block = joined([self._pieces.block(piece) for piece in self._in(window)])
            if self._counted == window < self._per_pass:
                self._preparation.seen += seen_in(block, self._preparation.encoder.stops)
                self._counted += 1
            rows = BlockRows(block, self._preparation.shape)
            self._windows[window] = _Window(rows, self._grouped(rows, window))
        return self._windows[window]

    def _grouped(self, rows: BlockRows[TokenRow], window: int) -> list[tuple[int, ...]]:
        if not self._packing:
            return [(row,) for row in range(len(rows))]
        groups = pack(rows.lengths, self._preparation.max_length)
        shuffled = np.random.default_rng([self._optimization.seed, window]).permutation(len(groups))
        return [groups[index] for index in shuffled]

    def _in(self, window: int) -> range:
        """Pieces of a window."""
        epoch, within = divmod(window, self._per_pass)
        start, most = within * self._pieces_of_window, self._pieces.per_pass
        pieces = range(start, min(start + self._pieces_of_window, most))
        return range(epoch * most + pieces.start, epoch * most + pieces.stop)

    def _forget(self, step: int) -> None:
        """Drop what no step that may be asked for again needs."""
        self._batches = {each: batch for each, batch in self._batches.items() if each > step - _REMEMBERED}
        self._places = {each: place for each, place in self._places.items() if each > step - _REMEMBERED}
        needed = min(place.window for place in self._places.values())
        self._windows = {window: opened for window, opened in self._windows.items() if window >= needed}
