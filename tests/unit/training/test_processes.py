"""Helper processes: they give what this one would, in order, and end with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from attempts import chat, write_rows
from tunesmith.spec.errors import DatasetError, OutOfMemoryError
from tunesmith.spec.reading import AS_FOUND
from tunesmith.training.model import load_tokenizer
from tunesmith.training.preparation import Preparation
from tunesmith.training.processes import Helpers
from tunesmith.training.row_block import joined
from tunesmith.training.row_source import RowSource
from tunesmith.training.stop_tokens import stop_tokens
from tunesmith.training.stopping import StopRequested
from tunesmith.training.supervised_rows import SupervisedShape
from tunesmith.training.text import TokenRow

_ORPHANS = """
import time
from tunesmith.training.processes import Helpers

helpers = Helpers(time.sleep, lambda: None, 2)
helpers.submit(0).result()
helpers.submit(600), helpers.submit(600)
print("ready", flush=True)
time.sleep(600)
"""


def _preparation(model: Path) -> Preparation[TokenRow]:
    tokenizer = load_tokenizer(model)
    return Preparation(
        tokenizer,
        SupervisedShape("sft", "assistant"),
        stops=stop_tokens(model, tokenizer),
        vocabulary=len(tokenizer),
        max_length=40,
        over_long="truncate",
        poll=lambda: None,
    )


def test_helpers_prepare_the_same_rows_in_the_same_order(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(1500))
    source = RowSource(rows, AS_FOUND, None, "train", 1.0, None, 0)
    helped, alone = _preparation(tiny_model), _preparation(tiny_model)
    found = helped.read(source).block
    examples = list(source.rows())
    expected = alone.rows_of(joined([alone.block(examples[at : at + 256]) for at in range(0, 1500, 256)]), source).block
    assert all((getattr(found, name) == getattr(expected, name)).all() for name in vars(expected))
    assert helped.seen == alone.seen


def _failing(number: int) -> int:
    if number == 3:
        raise DatasetError("Line 3: no.")
    return number


def test_a_fault_comes_after_the_results_before_it() -> None:
    with Helpers(_failing, lambda: None, 2) as helpers:
        results = helpers.map(range(10))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DatasetError, match="Line 3: no"):
            next(results)


def test_a_fault_of_the_reader_comes_after_the_results_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield from (1, 2, 3)
        raise DatasetError("Line 4: broken.")

    with Helpers(_failing, lambda: None, 1) as helpers, pytest.raises(DatasetError, match="Line 3: no"):
        list(helpers.map(pieces()))


def test_a_request_to_stop_is_heard_while_waiting() -> None:
    def poll() -> None:
        raise StopRequested

    with Helpers(_long, poll, 1) as helpers, pytest.raises(StopRequested):
        helpers.result(helpers.submit(1))


def _long(seconds: float) -> None:
    signal.sigtimedwait([signal.SIGUSR1], seconds)


def test_a_helper_that_is_killed_is_said() -> None:
    with Helpers(_killed, lambda: None, 1) as helpers, pytest.raises(OutOfMemoryError, match="was killed"):
        helpers.result(helpers.submit(None))


def _killed(_: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_helpers_end_with_a_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _ORPHANS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        helpers = psutil.Process(process.pid).children()
        assert len(helpers) == 2
        process.kill()
    _, alive = psutil.wait_procs(helpers, timeout=10)
    assert not alive
