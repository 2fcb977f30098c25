"""Checks and plans beside each other, with workers that the test lets end."""

from threading import Event, Lock, Thread

import pytest

from rows import chat_rows
from running_server import wait_for
from stored_jobs import job_spec, plan
from tunesmith.access.secrets import open_secrets
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.models import BaseModels
from tunesmith.assets.row_cache import RowCache
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.fetching import Fetcher
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.jobs.pictures.collecting import Collector
from tunesmith.jobs.pictures.preparing import Pictures
from tunesmith.runners import Exit
from tunesmith.sources import Limits
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec import events
from tunesmith.spec.job import DataSource

HERE = "https://example.org/rows.jsonl"


@pytest.fixture
def plans_may_end():
    return Event()


@pytest.fixture
def admission(house, tmp_path, plans_may_end):
    """An admission whose plans take until the test lets them end, and whose checks end at once."""
    bases = BaseModels({"m": tmp_path / "m"}, ())
    hub = HubModels(tmp_path / "hub", None, Limits(max_bytes=10_000_000))
    secrets = open_secrets(house.database, tmp_path / "keys")
    fetcher = Fetcher(house.database, {}, hub, bases, secrets, house.storage, PictureGatherer(None, 0))
    rows = RowCache(tmp_path / "r", house.storage, 10**7)
    resolver = InputResolver(house.database, bases, hub, house.storage, rows, EncodedCache(tmp_path / "encoded", 1))
    runner = house.runner
    runner.orders = []
    threads = Lock()

    def start(run, device):
        order = run.read_spec()
        runner.orders.append(order)
        with threads:
            runner.runs.append(run)
            runner.report(events.Checked(at="2026-01-01T00:00:00Z", plan=plan()))
            return {"pid": len(runner.runs), "purpose": order.purpose}

    def poll(handle, run):
        return None if handle["purpose"] == "plan" and not plans_may_end.is_set() else Exit(code=0)

    runner.start, runner.poll = start, poll
    captioner = Captioner(runner, bases, None, tmp_path / "captions")
    pictures = Pictures(
        Collector(house.database, fetcher, house.storage), captioner, house.storage, tmp_path / "pictures"
    )
    return Admission(
        house.database, runner, fetcher, resolver, house.storage, tmp_path / "checks", "adjust", pictures=pictures
    )


def test_a_submission_does_not_wait_for_plans(house, admission, plans_may_end):
    rows = DataSource(kind="http", id=HERE, sha256=house.storage.put(chat_rows()).sha256)
    admitted = []

    def admit(purpose):
        admitted.append((purpose, admission.admit("local", job_spec(rows), purpose)))

    plans = [Thread(target=admit, args=["plan"]) for _ in range(2)]
    check = Thread(target=admit, args=["check"])
    for thread in plans:
        thread.start()
    try:
        wait_for(lambda: len(house.runner.runs) == 2, 20)
        check.start()
        check.join(20)
        assert [purpose for purpose, _ in admitted] == ["check"]
    finally:
        plans_may_end.set()
        for thread in (*plans, check):
            thread.join(20)
    assert sorted(purpose for purpose, _ in admitted) == ["check", "plan", "plan"]


ONE_CLASS = b'{"text": "a", "label": 3}\n{"text": "b", "label": "3"}\n'


def test_a_check_is_told_the_classes_of_the_rows(house, admission):
    rows = DataSource(kind="http", id=HERE, sha256=house.storage.put(ONE_CLASS).sha256)
    admission.admit("local", job_spec(rows))
    assert house.runner.orders[-1].classes == (3,)
