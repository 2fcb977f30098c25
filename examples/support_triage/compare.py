"""Base model against tuned model on messages that neither was trained on."""

from dataclasses import dataclass
from pathlib import Path

from answering import Answerer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from triage import Row, Score, is_correct, parse, score

_SHOWN = 6


@dataclass(frozen=True)
class Comparison:
    """Scores on the same rows."""

    base: Score
    """The base model with the prompt of the training rows."""

    instructed: Score
    """The base model with full instructions and an example."""

    tuned: Score
    """The tuned model with the prompt of the training rows."""

    def shortfall(self) -> str | None:
        """Why the tuning did not pay off; none if it did."""
        if self.tuned.valid <= self.base.valid:
            return f"only {self.tuned.valid} valid answers after tuning, {self.base.valid} before"
        best = max(self.base.correct, self.instructed.correct)
        if self.tuned.correct <= best:
            return f"only {self.tuned.correct} correct answers after tuning, {best} before"
        return None


def compare(console: Console, model: Path, adapter: Path, rows: list[Row]) -> Comparison:
    """Let both models answer all rows, show some answers and the scores."""
    bar = (TextColumn("  {task.description}"), BarColumn(30), MofNCompleteColumn())
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading both models", total=3 * len(rows))
        answerer = Answerer(model, adapter)
        progress.update(task, description="answers")

        def advance(count: int) -> None:
            progress.advance(task, count)

        tuned = answerer.tuned([row.short_prompt() for row in rows], advance)
        base = answerer.base([row.short_prompt() for row in rows], advance)
        instructed = answerer.base([row.long_prompt() for row in rows], advance)
    comparison = Comparison(score(base, rows), score(instructed, rows), score(tuned, rows))
    console.print(_examples(rows, instructed, tuned))
    console.print(_scores(comparison))
    return comparison


def _examples(rows: list[Row], base: list[str], tuned: list[str]) -> Table:
    """Rows of as many intents as possible, right and wrong ones as they come."""
    table = Table(title=f"{_SHOWN} of {len(rows)} held-out messages", box=box.SIMPLE_HEAD, show_lines=True)
    table.add_column("message", ratio=4)
    table.add_column("base, told everything", ratio=3, overflow="fold")
    table.add_column("tuned, told one line", ratio=3, overflow="fold")
    first_of_intent = {row.expected.intent: index for index, row in reversed(list(enumerate(rows)))}
    for index in sorted(first_of_intent.values())[:_SHOWN]:
        row = rows[index]
        table.add_row(Text(row.message), _marked(base[index], row), _marked(tuned[index], row))
    return table


def _marked(answer: str, row: Row) -> Text:
    """The answer with its verdict in words, so that it can be read without colours."""
    line = " ".join(answer.split())
    if parse(answer) is None:
        return Text(f"{line if len(line) <= 120 else line[:117] + '...'}\n(not valid)", style="red")
    if is_correct(answer, row.expected):
        return Text(f"{line}\n(correct)", style="green")
    return Text(f"{line}\n(expected {row.expected.intent}, {row.expected.urgency})", style="yellow")


def _scores(comparison: Comparison) -> Table:
    table = Table(title=f"Scores on all {comparison.tuned.total} held-out messages", box=box.SIMPLE_HEAD)
    table.add_column("model")
    table.add_column("valid JSON, right keys and values", justify="right")
    table.add_column("correct intent and urgency", justify="right")
    for name, each in (
        ("base, one-line prompt", comparison.base),
        ("base, full instructions and an example", comparison.instructed),
        ("tuned, one-line prompt", comparison.tuned),
    ):
        table.add_row(name, f"{each.valid_share:.0%}", f"{each.correct_share:.0%}")
    return table
