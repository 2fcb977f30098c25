"""What every integration owes, and what it may rely on, shown with the feeder and stored jobs."""

import threading
from dataclasses import dataclass, field

import pytest

from connections import connections
from running_server import wait_for
from stored_jobs import job_spec
from tunesmith.access.caller import LOCAL
from tunesmith.access.keyring import Keyring
from tunesmith.access.secrets import Secrets
from tunesmith.integrations import NotToldError, NotYetError, ReceiverGoneError
from tunesmith.integrations._feeder import Feeder
from tunesmith.jobs.admission import Admitted
from tunesmith.jobs.submitting import accept
from tunesmith.plugins import load_plugins
from tunesmith.spec.job import IntegrationSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.store import events, feeds, jobs
from tunesmith.store.database import Database

INTEGRATIONS = load_plugins("tunesmith.integrations")


DELAYS = (5.0, 300.0, 1800.0)


class Clock:
    now = 2e9  # later than any job is accepted

    def __call__(self):
        return self.now


@dataclass
class Scripted:
    """An integration that takes batches and does what a test says."""

    told: list = field(default_factory=list)
    given_up: int = 0
    plan: object = None
    receives: str = "one"
    closed: int = 0
    delays: tuple = DELAYS

    def kinds(self, feed):
        return ("state", "metrics")

    def receiver(self, feed):
        return self.receives

    def tell(self, feed, job, found):
        if self.plan is not None:
            self.plan(found)
        self.told += [event.data.get("step", event.data.get("state")) for event in found]
        return found[-1].number

    def give_up(self, feed):
        self.given_up += 1

    def close(self, feed):
        self.closed += 1

    def stop(self):
        pass


@dataclass
class House:
    database: Database
    clock: Clock
    integration: Scripted
    feeder: Feeder

    def submit(self):
        asked = IntegrationSpec(kind="webhook", settings={"address": "https://example.org"}, secret="0" * 32)
        submission = Submission(dialect="native", request={}, integrations=(asked,))
        with self.database.write() as connection:
            admitted = Admitted(spec=job_spec(), is_complete=True, notes=())
            return accept(connection, LOCAL, admitted, submission)

    def happen(self, job, kind, **data):
        with self.database.write() as connection:
            if kind == "state":
                jobs.change(connection, job.id, state=data["state"])
            events.add(connection, job.id, at=self.clock(), kind=kind, message=kind, data=data)

    def run(self, seconds=0):
        self.clock.now += seconds
        self.feeder.tick()
        self.feeder.join()

    def feed(self):
        with self.database.read() as connection:
            [(id,)] = connection.exec_driver_sql("select id from feeds where kind = 'webhook'").all()
            return feeds.get(connection, id)


@pytest.fixture
def house(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    clock, integration = Clock(), Scripted()
    yield House(database, clock, integration, Feeder(database, {"webhook": integration}, clock, lambda: 1.0))
    database.close()


@pytest.fixture(params=INTEGRATIONS, ids=str)
def made(request, house, tmp_path):
    secrets = Secrets(house.database, Keyring.open(tmp_path / "keys", needed=False))
    module = INTEGRATIONS[request.param]
    made = module.create(connections(house.database, secrets, tmp_path / "tracking", clock=house.clock))
    yield made
    made.stop()


def test_every_integration_hears_of_the_end_of_a_job_and_names_whom_it_leads_to(made, house):
    house.submit()
    feed = house.feed()
    assert "state" in made.kinds(feed)
    assert made.receiver(feed)


@pytest.mark.parametrize("kind", [kind for kind, module in INTEGRATIONS.items() if not module.FOR_EVERY_JOB])
def test_every_integration_without_its_credentials_ends_instead_of_trying_for_ever(kind, house, tmp_path):
    secrets = Secrets(house.database, Keyring.open(tmp_path / "keys", needed=False))
    made = INTEGRATIONS[kind].create(connections(house.database, secrets, tmp_path / "tracking", clock=house.clock))
    job = house.submit()
    with house.database.read() as connection:
        found = events.of_job(connection, job.id)
    with pytest.raises(ReceiverGoneError):
        made.tell(house.feed(), job, found)


def test_every_integration_waits_longer_or_as_long_after_each_failure_and_gives_up_after_days(made):
    assert list(made.delays) == sorted(made.delays)
    assert sum(made.delays) > 3 * 24 * 3600


def test_every_integration_lets_go_of_a_feed_that_told_nothing(made, house):
    house.submit()
    made.close(house.feed())


def test_telling_that_is_under_way_is_asked_for_again_and_is_no_failure(house):
    house.submit()

    def busy(_found):
        raise NotYetError(7)

    house.integration.plan = busy
    house.run()
    assert (house.feed().failures, house.feed().error) == (0, None)
    house.integration.plan = None
    house.run(5)
    assert house.integration.told == [], "too early"
    house.run(3)
    assert house.integration.told == ["queued"]


def test_a_feed_remembers_when_it_told_and_why_it_could_not(house):
    def away(found):
        raise NotToldError(found[-1], "the service is away")

    job = house.submit()
    house.integration.plan = away
    house.run()
    assert (house.feed().told_at, house.feed().error) == (None, "the service is away")
    house.integration.plan = None
    house.run(10)
    assert (house.feed().told_at, house.feed().error) == (house.clock(), None)
    house.happen(job, "state", state=State.SUCCEEDED)
    house.run()
    assert house.integration.closed == 1


def test_a_feed_whose_receiver_is_gone_says_why_and_is_closed(house):
    def gone(_found):
        raise ReceiverGoneError("it was deleted")

    house.submit()
    house.integration.plan = gone
    house.run()
    assert (house.feed().error, house.integration.closed) == ("it was deleted", 1)
    assert house.feed().ended_at is not None


def test_events_come_in_order_each_once_and_others_not_at_all(house):
    job = house.submit()
    for step in range(1, 500):
        house.happen(job, "metrics", step=step)
        house.happen(job, "note")
    house.happen(job, "state", state=State.SUCCEEDED)
    house.run()
    assert house.integration.told == ["queued", *range(1, 500), "succeeded"]
    assert house.feed().ended_at is not None
    house.run(1e6)
    assert len(house.integration.told) == 501


def test_a_new_feeder_goes_on_where_the_last_one_was(house):
    job = house.submit()
    house.happen(job, "metrics", step=1)
    house.run()
    house.happen(job, "metrics", step=2)
    house.feeder = Feeder(house.database, {"webhook": house.integration}, house.clock)
    house.run()
    assert house.integration.told == ["queued", 1, 2]


def test_what_was_told_before_a_failure_is_not_told_again(house):
    job = house.submit()
    for step in (1, 2):
        house.happen(job, "metrics", step=step)

    def fail_at_the_last(found):
        house.integration.told += [event.data.get("step", "queued") for event in found[:-1]]
        raise NotToldError(found[-1], "away")

    house.integration.plan = fail_at_the_last
    house.run()
    assert house.feed().failures == 1
    house.integration.plan = None
    house.run()
    assert house.integration.told == ["queued", 1], "its time has not come"
    house.run(DELAYS[0] + 1)
    assert house.integration.told == ["queued", 1, 2]
    assert house.feed().failures == 0


def test_a_batch_that_failed_is_told_again_as_a_whole(house):
    def away(found):
        raise NotToldError(found[-1], "away", first=found[0])

    job = house.submit()
    for step in (1, 2):
        house.happen(job, "metrics", step=step)
    house.integration.plan = away
    house.run()
    house.integration.plan = None
    house.run(10)
    assert house.integration.told == ["queued", 1, 2]


def test_a_batch_that_is_never_taken_is_given_up_as_a_whole(house):
    job = house.submit()
    for step in range(100):
        house.happen(job, "metrics", step=step)

    def away(found):
        raise NotToldError(found[-1], "away")

    house.integration.plan = away
    house.run()
    for delay in DELAYS:
        house.run(delay + 1)
    assert house.integration.given_up == 1
    house.integration.plan = None
    house.happen(job, "metrics", step=100)
    house.run()
    assert house.integration.told == [100]


def test_a_fault_of_an_integration_hurts_nobody_else(house, caplog):
    def broken(_found):
        raise ZeroDivisionError

    house.submit()
    house.integration.plan = broken
    house.run()
    assert "ZeroDivisionError" in caplog.text
    assert house.feed().cursor == 0
    house.integration.plan = None
    house.run(10)
    assert house.integration.told == [], "it is left alone for a while"
    house.run(300)
    assert house.integration.told == ["queued"]


def test_looking_for_work_does_not_wait_for_a_service_that_is_slow(house):
    asked, let_go = threading.Event(), threading.Event()

    def wait(_found):
        asked.set()
        let_go.wait(30)

    house.integration.plan = wait
    for _ in range(10):
        house.submit()
    house.feeder.tick()
    assert asked.wait(10)
    house.feeder.tick()  # returns, though nobody has answered
    assert house.integration.told == []
    let_go.set()
    wait_for(lambda: house.feeder.tick() or len(house.integration.told) == 10)
    house.feeder.join()


def test_feeds_with_nothing_to_tell_are_not_looked_at(house):
    for _ in range(50):
        house.submit()
    wait_for(lambda: house.feeder.tick() or len(house.integration.told) == 50)
    house.feeder.join()
    with house.database.read() as connection:
        assert feeds.due(connection, ("webhook",), at=house.clock()) == []
