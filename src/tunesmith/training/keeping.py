"""Which checkpoints of a job stay on disk, over all its attempts."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.spec.errors import CheckpointError
from tunesmith.spec.job import JobSpec
from tunesmith.training.checkpoint import read_facts, remove_folder
from tunesmith.training.reporting import Reporter

CRASH_CHECKPOINTS_KEPT = 2
"""Those beside the requested cadence."""


@dataclass(frozen=True)
class Kept:
    """A whole checkpoint."""

    step: int
    offered: bool
    """Belongs to the requested cadence."""

    score: float | None
    """The figure of the job's `selection`, if the validation rows were scored after this step."""

    folder: Path


class Keeping:
    """Knows the checkpoints, and removes those that are not wanted any more."""

    def __init__(self, run: RunDirectory, spec: JobSpec, reporter: Reporter) -> None:
        self._run = run
        self._selection = spec.selection
        self._most = {True: spec.cadence.keep_checkpoints, False: CRASH_CHECKPOINTS_KEPT}
        self._reporter = reporter
        self._kept: list[Kept] = []
        self._outdated: list[Kept] = []

    def adopt(self, folders: Iterable[Path], step: int) -> None:
        """Count the checkpoints of earlier attempts. Those behind `step`, from which the training goes on, are passed
        over; each goes when its step is saved again."""
        for folder in folders:
            with suppress(CheckpointError):
                facts = read_facts(folder)
                kept = Kept(int(facts["step"]), bool(facts["offered"]), facts.get("score"), folder)
                (self._kept if kept.step <= step else self._outdated).append(kept)
        self._kept.sort(key=lambda kept: kept.step)

    def has(self, step: int) -> bool:
        """Whether a checkpoint holds a step."""
        return any(kept.step == step for kept in self._kept)

    def by_score(self) -> list[Kept]:
        """Checkpoints that were evaluated, the best first; of equal ones, the earlier."""
        scored = [kept for kept in self._kept if kept.score is not None]
        return sorted(scored, key=lambda kept: kept.score or 0.0, reverse=self._selection.best == "highest")

    def add(self, added: Kept) -> None:
        """Count a new checkpoint, and remove what it replaces."""
        for known in (self._kept, self._outdated):
            for kept in [kept for kept in known if kept.step == added.step]:
                known.remove(kept)
                if kept.folder != added.folder:
                    self._remove(kept)
        self._kept.append(added)
        for offered, most in self._most.items():
            self._prune(offered, most)

    def _prune(self, offered: bool, most: int | None) -> None:
        if most is None:
            return
        spared = self._best(offered)
        for kept in [kept for kept in self._kept if kept.offered is offered][:-most]:
            if kept != spared:
                self._kept.remove(kept)
                self._remove(kept)

    def _best(self, offered: bool) -> Kept | None:
        """The one that stays whatever its age."""
        if not offered and self._selection.result != "best":
            return None
        return next((kept for kept in self.by_score() if kept.offered is offered), None)

    def _remove(self, kept: Kept) -> None:
        remove_folder(kept.folder)
        is_own = kept.folder.is_relative_to(self._run.path)
        path = kept.folder.relative_to(self._run.path) if is_own else kept.folder
        self._reporter.write(events.CheckpointRemoved, step=kept.step, path=str(path))
