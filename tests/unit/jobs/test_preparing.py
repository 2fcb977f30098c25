"""Jobs whose rows lie elsewhere, with a source whose contents the test holds."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rows import chat_rows
from running_server import wait_for
from stored_jobs import job_spec
from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.access.secrets import open_secrets
from tunesmith.assets.content import ContentUse
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.models import BaseModels
from tunesmith.assets.row_cache import RowCache
from tunesmith.data.row_pictures import RowPictures
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.fetching import Fetcher
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.jobs.pictures.collecting import Collector
from tunesmith.jobs.pictures.preparing import Pictures
from tunesmith.jobs.preparing import Preparer
from tunesmith.jobs.service import Jobs
from tunesmith.sources import Found, Limits
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import (
    ConflictError,
    DownloadError,
    SecretNotFoundError,
    SourceNotFoundError,
    UnsupportedError,
)
from tunesmith.spec.job import DataSource, ModelSpec, ResourcesSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.storage import Storage
from tunesmith.store import organisations
from tunesmith.store.database import Database
from vision import png, shows


@dataclass
class Shelf:
    """A source whose contents stand in a mapping."""

    contents: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)
    pictures: dict = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)

    def probe(self, location, credentials):
        self.seen.append(dict(credentials or {}))
        if location.address not in self.contents:
            raise SourceNotFoundError(f"Nothing lies at {location.address}.")
        content = self.contents[location.address]
        return Found(bytes=len(content), version=str(hash(content)))

    def fetch(self, location, found, credentials, target, progress):
        self.seen.append(dict(credentials or {}))
        content = self.contents[location.address]
        if found.version != str(hash(content)):
            raise DownloadError("It changed.")
        for start in range(0, len(content), 100):
            target.write(content[start : start + 100])
            progress(start, len(content))
        while not self.gate.is_set():
            progress(len(content) - 1, len(content))
            self.gate.wait(0.01)
        progress(len(content), len(content))


ADDRESS = "s3://bucket/rows.jsonl"
SIGNED = "https://example.org/rows.jsonl?signature=canary"
REMOTE = DataSource(kind="s3", id=ADDRESS, sha256=None)


@dataclass
class Place:
    database: Database
    jobs_of: Callable[[Caller], Jobs]
    jobs: Jobs
    preparer: Preparer
    shelf: Shelf
    secrets: object
    storage: Storage

    def submit(self, source=REMOTE, submission=None, **changes):
        return self.jobs.submit(job_spec(source, **changes), submission or Submission(dialect="native", request={}))

    def prepared(self, job):
        self.preparer.tick()
        return wait_for(lambda: (now := self.jobs.get(job.id)).state is not State.VALIDATING and now, 20)


@pytest.fixture
def place(house, tmp_path):
    """The parts of `house` with a true admission, whose check in a worker finds everything fine."""
    shelf = Shelf({ADDRESS: chat_rows()})
    shelf.gate.set()
    secrets = open_secrets(house.database, tmp_path / "keys")
    bases = BaseModels({"m": tmp_path / "m"}, ())
    hub = HubModels(tmp_path / "hub", None, Limits(max_bytes=10_000_000))
    gatherer = PictureGatherer(lambda address, _most: shelf.pictures[address], 1_000_000)
    fetcher = Fetcher(house.database, {"s3": shelf, "http": shelf}, hub, bases, secrets, house.storage, gatherer)
    rows = RowCache(tmp_path / "rows", house.storage, 10_000_000)
    resolver = InputResolver(house.database, bases, hub, house.storage, rows, EncodedCache(tmp_path / "encoded", 1))
    runner = house.runner
    runner.finds_nothing_wrong()
    collector = Collector(house.database, fetcher, house.storage)
    captioner = Captioner(runner, bases, None, tmp_path / "checks")
    admission = Admission(
        house.database,
        runner,
        fetcher,
        resolver,
        house.storage,
        tmp_path / "checks",
        "adjust",
        pictures=Pictures(collector, captioner, house.storage, tmp_path / "pictures"),
    )
    use = ContentUse(house.storage)

    def jobs_of(caller):
        return Jobs(house.database, admission, use, tmp_path / "jobs", lambda: None, caller)

    place = Place(
        database=house.database,
        jobs_of=jobs_of,
        jobs=jobs_of(LOCAL),
        preparer=Preparer(house.database, admission, use),
        shelf=shelf,
        secrets=secrets,
        storage=house.storage,
    )
    yield place
    place.preparer.stop()


def contents(place):
    """Files that the storage holds."""
    return [path for path in place.storage._folder.rglob("*") if path.is_file()]


def messages(place, job):
    return [event.message for event in place.jobs.events(job.id)]


def test_remote_rows_are_pinned_at_submission_and_fetched_before_the_queue(place):
    job = place.submit()
    assert job.state is State.VALIDATING
    assert job.spec.data.train.revision == str(hash(chat_rows()))
    job = place.prepared(job)
    assert job.state is State.QUEUED
    assert place.storage.path(job.spec.data.train.sha256).read_bytes() == chat_rows()
    size = f"{len(chat_rows()):,}"
    assert f"Fetched {size} of {size} bytes of {ADDRESS}." in messages(place, job)


def test_what_is_not_there_is_refused_at_submission_by_its_field(place):
    with pytest.raises(SourceNotFoundError) as caught:
        place.submit(DataSource(kind="s3", id="s3://bucket/other", sha256=None))
    assert caught.value.param == "data.train"
    assert place.jobs.count() == 0


def test_rows_that_change_between_submission_and_fetching_fail_the_job(place):
    job = place.submit()
    place.shelf.contents[ADDRESS] = chat_rows() * 2
    job = place.prepared(job)
    assert (job.state, job.error.code, job.error.param) == (State.FAILED, "download_failed", "data.train")


def test_rows_that_cannot_be_used_fail_the_job_with_their_line(place):
    place.shelf.contents[ADDRESS] = chat_rows() + b'{"messages": []}\n'
    job = place.prepared(place.submit())
    assert (job.state, job.error.code) == (State.FAILED, "invalid_dataset")
    assert "line" in job.error.message
    assert contents(place) == []


SEEING = ModelSpec(base="m", dtype="float32", modality="vision_language")
PICTURE = "https://pictures.example/red.png?signature=canary"


def test_the_pictures_that_rows_show_are_gathered_before_the_queue_and_go_with_the_job(place):
    place.shelf.contents[ADDRESS] = json.dumps(shows(PICTURE)).encode()
    place.shelf.pictures[PICTURE] = png("red")
    job = place.prepared(place.submit(model=SEEING))
    assert (job.state, job.error) == (State.QUEUED, None)
    path = place.storage.path(job.spec.data.train.pictures)
    assert RowPictures(path).read(0) == png("red")
    assert b"canary" not in path.read_bytes()
    place.jobs.cancel(job.id)
    assert contents(place) == []


def test_a_picture_that_cannot_be_had_fails_the_job_with_its_line_and_leaves_nothing(place):
    place.shelf.contents[ADDRESS] = json.dumps(shows("file:///etc/passwd")).encode()
    job = place.prepared(place.submit(model=SEEING))
    assert (job.state, job.error.code, job.error.param) == (State.FAILED, "invalid_dataset", "data.train")
    assert "Line 1: the picture 'file:///etc/passwd' is no address" in job.error.message
    assert contents(place) == []


def test_a_model_of_text_needs_no_pictures(place):
    place.shelf.contents[ADDRESS] = json.dumps(shows(PICTURE)).encode()
    job = place.prepared(place.submit())
    assert (job.state, job.spec.data.train.pictures) == (State.QUEUED, None)


def test_the_address_is_kept_and_told_without_its_query(place):
    place.shelf.contents[SIGNED] = chat_rows()
    job = place.submit(DataSource(kind="http", id=SIGNED, sha256=None))
    job = place.prepared(job)
    assert job.state is State.QUEUED, job.error
    assert job.spec.data.train.id == SIGNED.partition("?")[0]
    assert "canary" not in " ".join(messages(place, job))


def test_a_job_that_ends_unfetched_keeps_its_address_without_its_query(place):
    place.shelf.contents[SIGNED] = chat_rows()
    job = place.submit(DataSource(kind="http", id=SIGNED, sha256=None))
    place.jobs.cancel(job.id)
    assert place.jobs.get(job.id).spec.data.train.id == SIGNED.partition("?")[0]


@pytest.mark.parametrize("key", ["team", 'a"b', "ü", "🚀", "a\\b", "$.x", "a b"])
def test_jobs_are_found_by_any_label(place, key):
    for labels in ({key: "x"}, {key: "y"}, {}):
        place.submit(submission=Submission(dialect="native", request={}, labels=labels))
    [found] = place.jobs.newest_first(limit=None, labels={key: "x"})
    assert found.submission.labels == {key: "x"}


def test_the_credentials_of_a_request_end_with_its_job(place):
    fields = {"access_key_id": "K", "secret_access_key": "S"}
    sent = place.secrets.put_for_request("local", "s3", fields)
    kept = place.secrets.create("local", name="bucket", purpose="s3", fields=fields).id
    for secret in (sent, kept):
        place.jobs.cancel(place.submit(DataSource(kind="s3", id=ADDRESS, sha256=None, secret=secret)).id)
    assert place.secrets.describe("local", kept).name == "bucket"
    with pytest.raises(SecretNotFoundError):
        place.secrets.describe("local", sent)


def test_a_cancelled_job_stops_being_fetched_and_leaves_nothing(place):
    place.shelf.gate.clear()
    job = place.submit()
    place.preparer.tick()
    wait_for(lambda: len(place.shelf.seen) == 2, 20)
    assert place.jobs.cancel(job.id).state is State.CANCELLED
    place.preparer.stop()
    assert place.jobs.get(job.id).state is State.CANCELLED
    assert contents(place) == []


def test_the_end_of_a_server_leaves_the_job_to_the_next_one(place):
    place.shelf.gate.clear()
    job = place.submit()
    place.preparer.tick()
    wait_for(lambda: len(place.shelf.seen) == 2, 20)
    place.preparer.stop()
    assert place.jobs.get(job.id).state is State.VALIDATING


def test_a_source_is_given_the_credentials_of_the_callers_secret(place):
    fields = {"access_key_id": "K", "secret_access_key": "S"}
    secret = place.secrets.create("local", name="bucket", purpose="s3", fields=fields)
    place.submit(DataSource(kind="s3", id=ADDRESS, sha256=None, secret=secret.id))
    assert place.shelf.seen[-1] == fields


def test_the_secret_of_another_organisation_answers_as_an_unknown_one(place):
    fields = {"access_key_id": "K", "secret_access_key": "S"}
    foreign = place.secrets.create("other", name="bucket", purpose="s3", fields=fields)
    answers = []
    for id in (foreign.id, "0" * 32):
        with pytest.raises(SecretNotFoundError) as caught:
            place.submit(DataSource(kind="s3", id=ADDRESS, sha256=None, secret=id))
        answers.append((caught.value.message.replace(id, "ID"), caught.value.param))
    assert answers[0] == answers[1]


def test_a_repeated_submission_with_the_same_key_is_the_same_job(place):
    once = Submission(dialect="native", request={"a": 1}, idempotency_key="k")
    first = place.submit(submission=once)
    assert place.submit(submission=once).id == first.id
    with pytest.raises(ConflictError):
        place.submit(submission=once.model_copy(update={"request": {"a": 2}}))
    assert place.jobs.count() == 1


def test_a_key_of_another_project_gives_nothing_of_its_job_away(place):
    once = Submission(dialect="native", request={"a": 1}, project="one", idempotency_key="k")
    first = place.submit(submission=once)
    elsewhere = Caller(org="local", user=None, role=Role.MEMBER, project="proj_two")
    with place.database.write() as connection:
        organisations.add_project(connection, "local", "proj_two", "two", 0.0)
    with pytest.raises(ConflictError) as caught:
        place.jobs_of(elsewhere).submit(job_spec(REMOTE), once.model_copy(update={"project": None}))
    assert first.id not in caught.value.message


def test_machines_that_are_not_there_are_adjusted_and_told(place):
    job = place.submit(resources=ResourcesSpec(gpus_per_node=2, nodes=2, gpu_type="h100", distribution="ddp"))
    assert job.spec.resources is None
    told = " ".join(messages(place, job))
    assert "2 nodes with 2 GPUs each" in told
    assert "'h100'" in told


def test_machines_that_are_not_there_are_refused_where_the_operator_says_so(place):
    place.jobs._admission._unavailable_resources = "refuse"
    with pytest.raises(UnsupportedError) as caught:
        place.submit(resources=ResourcesSpec(gpus_per_node=2, nodes=1))
    assert caught.value.param == "resources"


def test_urgent_jobs_leave_the_queue_first_and_equal_ones_in_order(place, house):
    low, first, second = (
        place.submit(submission=Submission(dialect="native", request={}, priority=priority)) for priority in (0, 1, 1)
    )
    assert [job.id for job in place.jobs.queued()] == [first.id, second.id, low.id]
    assert place.jobs.position(low) == 2
    place.jobs.prioritise(low.id, 3)
    assert [job.id for job in place.jobs.queued()] == [low.id, first.id, second.id]


def test_nothing_is_told_of_a_job_after_it_was_cancelled(place):
    place.shelf.gate.clear()
    job = place.submit()
    asked = len(place.shelf.seen)
    place.preparer.tick()
    wait_for(lambda: len(place.shelf.seen) > asked)
    place.jobs.cancel(job.id)
    place.shelf.gate.set()  # all of it is here now, which would be told
    place.preparer.stop()
    assert [event.kind for event in place.jobs.events(job.id)][-1] == "state"
