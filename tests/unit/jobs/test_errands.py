import subprocess
import sys
import threading

import pytest

from running_server import wait_for
from tunesmith.jobs.errands import Errands


def test_what_a_function_returns_or_raises_comes_to_whoever_waits():
    with Errands(2) as errands:
        found, failed = errands.submit(divmod, 7, 2), errands.submit(divmod, 7, 0)
        assert found.result(10) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            failed.result(10)


def test_no_more_run_at_once_than_there_are_threads():
    together, most, lock = [], [], threading.Lock()

    def work(number):
        with lock:
            together.append(number)
            most.append(len(together))
        with lock:
            together.remove(number)
        return number

    with Errands(2) as errands:
        futures = [errands.submit(work, number) for number in range(50)]
        assert [future.result(10) for future in futures] == list(range(50))
    assert max(most) <= 2


def test_at_the_end_nothing_is_begun_and_no_thread_stays():
    begun, answers, more = threading.Event(), threading.Event(), []

    def wait():
        begun.set()
        return answers.wait(30)

    with Errands(1) as errands:
        held = errands.submit(wait)
        assert begun.wait(10)
        for number in range(5):
            errands.submit(more.append, number)
    assert not held.done()
    answers.set()
    assert held.result(10)
    wait_for(lambda: not any(thread.name == "errands" for thread in threading.enumerate()))
    assert more == []


def test_a_process_ends_while_an_errand_still_waits():
    program = (
        "import threading; from tunesmith.jobs.errands import Errands\n"
        "with Errands(1) as errands: errands.submit(threading.Event().wait)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
