"""Webhooks that a job itself names: each told what its API's origin tells, unsigned as there."""

import pytest

from receiver import answering
from tunesmith.spec.errors import AddressRefusedError, ConflictError, DiskFullError, InvalidRequestError
from tunesmith.spec.job import Submission
from tunesmith.spec.lifecycle import State
from tunesmith.store import jobs
from web_server import in_turn


def picture_request():
    echoed = (
        "origin_instance", "origin_zone", "origin_version", "origin_tenant_id", "entity_type", "entity_id", "rank",
        "trigger_word", "sample_prompts", "source_images", "preprocessing_transforms",
        "preprocessing_captioning_strategy", "preprocessing_captioning_prompt", "webhook_url",
    )  # fmt: skip
    return dict.fromkeys(echoed)


def picture_job(post, receiver):
    job = post.submit(url=receiver.hook, dialect="image_training")
    with post.database.write() as connection:
        submission = Submission.model_validate({**job.submission.model_dump(), "request": picture_request()})
        return jobs.change(connection, job.id, submission=submission.model_dump(mode="json"))


def test_a_job_of_the_training_api_is_told_once_at_its_success(post, receiver):
    job = post.submit(url=receiver.hook)
    post.happen(job, "state", state=State.RUNNING)
    post.happen(job, "metrics", step=1, total_steps=1)
    post.run()
    assert receiver.messages == []
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    [message] = receiver.messages
    assert set(message.json) == {"job_id", "status", "tracking_url", "output_path"}
    assert message.json["status"] == "completed"
    assert message.json["job_id"].replace("-", "") == job.id
    assert "webhook-signature" not in message.headers
    assert message.id


def test_a_failed_job_of_the_training_api_is_told_with_its_error_and_a_cancelled_one_not_at_all(post, receiver):
    failed, cancelled = post.submit(url=receiver.hook), post.submit(url=receiver.hook)
    with post.database.write() as connection:
        jobs.change(connection, failed.id, error=DiskFullError("No room.").info.model_dump())
    post.end(failed, State.FAILED)
    post.happen(cancelled, "state", state=State.CANCELLED)
    post.run()
    [message] = receiver.messages
    assert message.json == {"job_id": message.json["job_id"], "status": "failed", "error": "No room."}
    assert all(feed.ended_at is not None for feed in post.feeds())


def test_a_picture_job_is_told_at_every_change_of_its_state_and_of_its_progress(post, receiver):
    job = picture_job(post, receiver)
    post.happen(job, "state", state=State.STARTING)
    post.happen(job, "state", state=State.RUNNING)
    post.run()
    for step in (5, 10, 11):
        post.happen(job, "metrics", step=step, total_steps=100)
        post.run()
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    statuses = [message.json["status"] for message in receiver.messages]
    assert statuses == ["QUEUED", "PREPROCESSING", "RUNNING", "RUNNING", "COMPLETED"]


def test_progress_that_could_not_be_told_gives_way_to_newer_progress(post, receiver):
    job = picture_job(post, receiver)
    post.happen(job, "state", state=State.RUNNING)
    post.run()
    receiver.plan = answering(500)
    for step in (10, 20, 30):
        post.happen(job, "metrics", step=step, total_steps=100)
        post.run()
    receiver.plan = answering(200)
    post.run(400)
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    told = [(delivery.event, delivery.state) for delivery, _ in post.log(job=job.id)]
    assert told == [
        ("queued", "delivered"), ("running", "delivered"), ("metrics", "superseded"), ("metrics", "delivered"),
        ("succeeded", "delivered"),
    ]  # fmt: skip


def test_410_ends_the_telling_of_that_job_alone(post, receiver):
    receiver.plan = in_turn(answering(410), answering(200))
    one = post.submit(url=receiver.hook)
    post.end(one)
    post.run()
    other = post.submit(url=receiver.hook)
    post.end(other)
    post.run(1e6)
    assert len(receiver.messages) == 2
    assert {delivery.job_id: delivery.state for delivery, _ in post.log()} == {one.id: "failed", other.id: "delivered"}


def test_the_url_of_a_job_stands_in_no_row_in_the_clear(post, receiver):
    receiver.path = "/canary"
    receiver.answers["/canary"] = receiver._take
    job = post.submit(url=receiver.hook)
    post.end(job)
    post.run()
    assert len(receiver.messages) == 1
    with post.database.read() as connection:
        names = [name for (name,) in connection.exec_driver_sql("select name from sqlite_master where type='table'")]
        stored = str([connection.exec_driver_sql(f"select * from {name}").all() for name in names])
    assert job.id in stored
    assert "canary" not in stored


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://10.0.0.1/hook", AddressRefusedError),
        ("http://169.254.169.254/latest/meta-data", AddressRefusedError),
        ("http://[fd00::1]/", AddressRefusedError),
        ("https://user:canary@example.org/", AddressRefusedError),
        ("https://example.org:25/", AddressRefusedError),
        ("http://2130706433/", AddressRefusedError),
        ("ftp://example.org/", InvalidRequestError),
        ("canary", InvalidRequestError),
        ("https://example.org/a b", InvalidRequestError),
        ("https://example.org/" + "x" * 2048, InvalidRequestError),
    ],
)
def test_a_url_that_can_never_be_delivered_to_is_refused_and_nothing_of_it_stays(post, url, kind):
    with pytest.raises(kind) as raised:
        post.submit(url=url)
    assert raised.value.param == "webhook_url"
    assert "canary" not in raised.value.info.sentence()
    with post.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from secrets").scalar() == 0


def test_this_machine_and_private_networks_are_refused_at_every_delivery_unless_the_operator_allows_them(
    post, receiver
):
    strict = type(post)(post.database, post.secrets, post.clock, limits=post.limits.model_copy(update={
        "allowed_networks": ()}))  # fmt: skip
    for url in (receiver.hook, f"http://localhost:{receiver.port}/hook"):
        with pytest.raises(AddressRefusedError):
            strict.submit(url=url)
    job = post.submit(url=receiver.hook)  # while it was allowed
    post.end(job)
    strict.run()
    assert receiver.requests == []
    [(_, [attempt])] = post.log()
    assert "not public" in attempt.error
    post.run(6)
    assert len(receiver.messages) == 1


def test_the_url_of_a_job_that_is_refused_is_forgotten(post, receiver):
    with pytest.raises(ConflictError), post.webhooks.kept(receiver.hook, "training_api", param="webhook_url"):
        raise ConflictError("no")
    with post.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from secrets").scalar() == 0
