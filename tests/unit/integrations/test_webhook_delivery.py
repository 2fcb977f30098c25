"""What receivers get: when, in which order, signed how, and what becomes of what they do not take."""

import openai
import pytest
from standardwebhooks import Webhook as Verifier

from receiver import Slow, answering, lying, redirecting, resetting
from running_server import wait_for
from tunesmith.integrations.webhook import DELAYS
from tunesmith.integrations.webhook.catalogue import EVENTS
from tunesmith.spec.lifecycle import State
from web_server import in_turn


def created(post, receiver, events=EVENTS[:3], **more):
    return post.webhooks.create(receiver.hook, events=events, description=None, project=None, **more)


def told(receiver):
    return [message.json["type"] for message in receiver.messages]


# --- the message -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_the_openai_client_accepts_and_reads_the_end_of_a_job(post, receiver, end):
    _, secret = created(post, receiver)
    job = post.submit()
    post.end(job, end)
    post.run()
    [message] = receiver.messages
    client = openai.OpenAI(api_key="any", webhook_secret=secret)
    event = client.webhooks.unwrap(message.body, message.headers)
    assert event.type == f"fine_tuning.job.{end}"
    assert type(event).__name__ == f"FineTuningJob{end.capitalize()}WebhookEvent"
    assert (event.object, event.data.id) == ("event", f"ftjob-{job.id}")
    assert event.id.startswith("evt_")
    assert message.headers["content-type"] == "application/json"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(message.body.replace(b"ftjob", b"ftjoc"), message.headers)


def test_the_library_of_standard_webhooks_accepts_it(post, receiver):
    _, secret = created(post, receiver)
    post.end(post.submit())
    post.run()
    [message] = receiver.messages
    assert Verifier(secret).verify(message.body, message.headers) == message.json


def test_while_a_secret_is_rotated_both_sign_and_then_only_the_new_one(post, receiver):
    webhook, old = created(post, receiver)
    _, new = post.webhooks.rotate_secret(webhook.id, overlap=100)
    for seconds, accepted in ((0, (old, new)), (101, (new,))):
        post.clock.ahead += seconds
        post.end(post.submit())
        post.run()
        message = receiver.messages[-1]
        signatures = message.headers["webhook-signature"].split()
        assert len(signatures) == len(accepted)
        assert [_accepts(secret, message, post.clock.ahead) for secret in (old, new)] == [
            secret in accepted for secret in (old, new)
        ]


def _accepts(secret, message, ahead):
    client = openai.OpenAI(api_key="any")
    try:
        client.webhooks.verify_signature(message.body, message.headers, secret=secret, tolerance=300 + int(ahead))
    except openai.InvalidWebhookSignatureError:
        return False
    return True


def test_a_secret_can_be_rotated_without_overlap(post, receiver):
    webhook, old = created(post, receiver)
    _, new = post.webhooks.rotate_secret(webhook.id, overlap=0)
    post.end(post.submit())
    post.run()
    assert [_accepts(secret, receiver.messages[0], 0) for secret in (old, new)] == [False, True]


def test_only_the_events_that_were_asked_for_are_told(post, receiver, other):
    created(post, receiver, EVENTS)
    created(post, other, ("fine_tuning.job.failed",))
    job = post.submit()
    post.happen(job, "state", state=State.RUNNING)
    post.happen(job, "metrics", step=1, total_steps=2)
    post.happen(job, "checkpoint_saved", step=1, offered=True)
    post.happen(job, "state", state=State.PAUSED)
    post.end(job)
    post.run()
    assert [name.rpartition(".")[2] for name in told(receiver)] == [
        "started", "checkpoint", "paused", "started", "succeeded",
    ]  # fmt: skip
    assert receiver.messages[1].json["data"] == {"id": f"ftjob-{job.id}", "step": 1}
    assert other.messages == []
    assert all(feed.ended_at is not None for feed in post.feeds())


def test_a_webhook_is_told_of_no_other_organisation_and_of_no_other_project(post, receiver, other):
    created(post, receiver)
    with post.database.write() as connection:
        connection.exec_driver_sql("insert into projects (id, org, name, created_at) values ('proj_a', 'acme', 'a', 0)")
    post.webhooks.create(other.hook, events=EVENTS[:3], description=None, project="proj_a")
    post.end(post.submit(org="others"))
    within = post.submit(project="proj_a")
    post.end(within)
    post.end(post.submit())
    post.run()
    assert len(receiver.messages) == 2
    assert [message.json["data"]["id"] for message in other.messages] == [f"ftjob-{within.id}"]


def test_a_new_webhook_is_told_of_what_happens_from_then_on(post, receiver):
    running, ended = post.submit(), post.submit()
    post.happen(running, "state", state=State.RUNNING)
    post.end(ended)
    created(post, receiver, EVENTS)
    post.happen(running, "state", state=State.SUCCEEDED)
    post.run()
    assert told(receiver) == ["fine_tuning.job.succeeded"]


def test_a_webhook_that_is_switched_off_is_told_of_nothing_that_happens_meanwhile(post, receiver):
    webhook, _ = created(post, receiver, EVENTS)
    job = post.submit()
    assert post.webhooks.change(webhook.id, {"enabled": False}).disabled_because == "It was switched off."
    post.happen(job, "state", state=State.RUNNING)
    post.run()
    assert post.webhooks.change(webhook.id, {"enabled": True}).disabled_at is None
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    assert told(receiver) == ["fine_tuning.job.succeeded"]


def test_another_url_counts_for_what_is_still_to_be_told(post, receiver, other):
    receiver.plan = answering(500)
    webhook, secret = created(post, receiver)
    post.end(post.submit())
    post.run()
    changed = post.webhooks.change(webhook.id, {"url": other.hook, "description": "moved"})
    assert (changed.address, changed.description) == (other.url, "moved")
    post.run(6)
    assert len(receiver.messages) == len(other.messages) == 1
    assert _accepts(secret, other.messages[0], 10)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_receiver_that_fails_nine_times_gets_the_message_at_the_tenth_by_the_schedule(post, receiver):
    created(post, receiver)
    receiver.plan = in_turn(*[answering(500)] * 9, answering(200))
    post.end(post.submit())
    post.run()
    for delay in DELAYS:
        tries = len(receiver.messages)
        post.run(delay - 1)
        assert len(receiver.messages) == tries, "too early"
        post.run(1.5)
        assert len(receiver.messages) == tries + 1
    assert (
        len({message.id for message in receiver.messages}) == len({message.body for message in receiver.messages}) == 1
    )
    timestamps = [int(message.headers["webhook-timestamp"]) for message in receiver.messages]
    assert timestamps == sorted(set(timestamps))
    [(delivery, attempts)] = post.log()
    assert delivery.state == "delivered"
    assert [each.status for each in attempts] == [500] * 9 + [200]


def test_the_schedule_takes_about_three_days_and_then_gives_up(post, receiver):
    created(post, receiver)
    receiver.plan = answering(503)
    post.end(post.submit())
    post.run()
    for delay in DELAYS:
        post.run(delay + 1)
    assert len(receiver.messages) == 10
    [(delivery, attempts)] = post.log()
    assert (delivery.state, len(attempts)) == ("failed", 10)
    assert 75 * 3600 < attempts[-1].at - attempts[0].at < 76 * 3600
    post.run(1e6)
    assert len(receiver.messages) == 10
    assert all(feed.ended_at is not None for feed in post.feeds())


@pytest.mark.parametrize(
    ("plan", "status", "error"),
    [
        (answering(500), 500, "only 200 to 299"),
        (answering(404), 404, "only 200 to 299"),
        (lying, 200, "cut off"),
        (resetting, None, "cut off"),
        (redirecting("/elsewhere"), 307, "redirects are not followed"),
    ],
    ids=["500", "404", "lying", "resetting", "redirecting"],
)
def test_what_is_no_whole_answer_of_success_is_tried_again(post, receiver, plan, status, error):
    receiver.plan = in_turn(plan, answering(202))
    created(post, receiver)
    post.end(post.submit())
    post.run()
    post.run(6)
    [(delivery, [failed, taken])] = post.log()
    assert (failed.status, taken.status, taken.error) == (status, 202, None)
    assert error in failed.error
    assert delivery.state == "delivered"
    assert [message.id for message in receiver.messages] == [delivery.id] * 2
    assert {path for path, _ in receiver.requests} == {"/hook"}


def test_a_receiver_that_is_not_there_is_tried_again(post, receiver):
    created(post, receiver)
    receiver.stop()
    post.end(post.submit())
    post.run()
    [(delivery, [attempt])] = post.log()
    assert (delivery.state, attempt.status, attempt.error) == ("pending", None, "No connection could be made.")


def test_an_endless_answer_of_success_is_not_read_to_its_end(post, receiver):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while len(sent) < 10_000:
                handler.wfile.write(b"x" * 65536)
                sent.append(65536)
        except ConnectionError:
            handler.close_connection = True

    receiver.plan = endless
    created(post, receiver)
    post.end(post.submit())
    post.run()
    [(delivery, [attempt])] = post.log()
    assert delivery.state == "delivered"
    assert attempt.answer == "x" * 1000
    assert len(sent) < 10_000


def test_a_receiver_that_asks_for_rest_gets_it(post, receiver):
    receiver.plan = in_turn(answering(429, Retry_After="60"), answering(200))
    created(post, receiver)
    post.end(post.submit())
    post.run()
    post.run(50)
    assert len(receiver.messages) == 1
    post.run(11)
    assert len(receiver.messages) == 2


def test_410_disables_a_webhook_and_all_that_it_was_still_to_be_told(post, receiver):
    webhook, _ = created(post, receiver, EVENTS)
    first, second = post.submit(), post.submit()
    receiver.plan = answering(500)
    post.happen(first, "state", state=State.RUNNING)
    post.run()
    receiver.plan = answering(410)
    post.happen(second, "state", state=State.RUNNING)
    post.run()
    tries = len(receiver.messages)
    found = post.webhooks.get(webhook.id)
    assert found.disabled_at is not None
    assert "410" in found.disabled_because
    post.end(post.submit())
    post.end(first)
    post.run(1e6)
    assert len(receiver.messages) == tries
    assert {delivery.state for delivery, _ in post.log()} == {"failed"}


def test_a_webhook_that_is_deleted_while_messages_wait_or_are_on_their_way_is_told_no_more(post, receiver, other):
    slow = receiver.plan = Slow()
    webhook, _ = created(post, receiver, EVENTS)
    created(post, other)
    waiting, under_way = post.submit(), post.submit()
    for job in (waiting, under_way):
        post.happen(job, "state", state=State.RUNNING)
        post.happen(job, "state", state=State.SUCCEEDED)
    post.feeder.tick()
    assert slow.asked.wait(10)
    post.webhooks.delete(webhook.id)
    slow.let_go.set()
    post.feeder.join()
    told_before = len(receiver.messages)
    post.end(post.submit())
    post.run(1e6)
    assert len(receiver.messages) == told_before <= 2, "what was on its way, and nothing behind it"
    assert "pending" not in {delivery.state for delivery, _ in post.log()}
    assert len(other.messages) == 3, "another webhook is told all"


# --- order -----------------------------------------------------------------------------------------------------------


def test_an_event_waits_until_the_one_before_is_taken(post, receiver):
    created(post, receiver, EVENTS)
    receiver.plan = answering(500)
    job, healthy = post.submit(), post.submit()
    post.happen(job, "state", state=State.RUNNING)
    post.run()
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    assert told(receiver) == ["fine_tuning.job.started"]
    receiver.plan = answering(200)
    post.end(healthy)
    post.run()
    assert len(receiver.messages) == 3, "another job does not wait"
    post.run(6)
    of_job = [message.json["type"] for message in receiver.messages if job.id in message.json["data"]["id"]]
    assert of_job == ["fine_tuning.job.started"] * 2 + ["fine_tuning.job.succeeded"]


def test_what_stood_behind_an_event_that_was_given_up_gets_one_try_and_the_end_all_of_them(post, receiver):
    created(post, receiver, EVENTS)
    receiver.plan = answering(500)
    job = post.submit()
    post.happen(job, "state", state=State.RUNNING)
    post.happen(job, "state", state=State.PAUSED)
    post.happen(job, "state", state=State.SUCCEEDED)
    post.run()
    for delay in DELAYS:
        post.run(delay + 1)
    assert told(receiver)[9:] == [
        "fine_tuning.job.started", "fine_tuning.job.paused", "fine_tuning.job.succeeded",
    ]  # fmt: skip
    receiver.plan = answering(200)
    post.run(6)
    assert [delivery.state for delivery, _ in post.log()] == ["failed", "failed", "delivered"]


def test_a_slow_receiver_holds_up_neither_another_one_nor_another_organisation(post, receiver, other):
    slow = receiver.plan = Slow()
    created(post, receiver)
    created(post, other)
    for _ in range(5):
        post.end(post.submit())
    post.feeder.tick()
    assert slow.asked.wait(10)
    wait_for(lambda: post.feeder.tick() or len(other.messages) == 5)
    assert len(receiver.messages) == 2, "it holds no more threads than these"
    slow.let_go.set()
    wait_for(lambda: post.feeder.tick() or len(receiver.messages) == 5)
    post.feeder.join()


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_what_was_sent_and_not_put_on_record_is_sent_again_with_the_same_id_and_body(post, receiver):
    created(post, receiver)
    post.end(post.submit())
    post.run()
    with post.database.write() as connection:  # as a server leaves it that dies before the answer is written down
        connection.exec_driver_sql("delete from webhook_attempts")
        connection.exec_driver_sql("update webhook_deliveries set state = 'pending', finished_at = null")
        connection.exec_driver_sql("update feeds set cursor = 0, ended_at = null")
    post.run()
    first, second = receiver.messages
    assert (first.id, first.body) == (second.id, second.body)
    assert [delivery.state for delivery, _ in post.log()] == ["delivered"]


def test_what_is_on_record_as_delivered_is_not_sent_again_though_the_cursor_stayed_behind(post, receiver):
    created(post, receiver)
    post.end(post.submit())
    [feed] = post.feeds()
    post.run()
    with post.database.write() as connection:
        connection.exec_driver_sql("update feeds set cursor = 0, ended_at = null")
    post.run()
    assert len(receiver.messages) == 1
    [feed] = post.feeds()
    assert feed.ended_at is not None


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_a_test_says_what_the_receiver_answered(post, receiver):
    webhook, secret = created(post, receiver)
    receiver.plan = in_turn(answering(500, b"broken"), answering(200, b"fine"))
    failed, [attempt] = post.webhooks.test(webhook.id)
    assert (failed.state, attempt.status, attempt.answer, attempt.by_hand) == ("failed", 500, "broken", True)
    taken, [attempt] = post.webhooks.test(webhook.id)
    assert (taken.state, attempt.answer, taken.event) == ("delivered", "fine", "webhook.test")
    message = receiver.messages[-1]
    event = openai.OpenAI(api_key="any").webhooks.unwrap(message.body, message.headers, secret=secret)
    assert event.type == "webhook.test"


def test_a_delivery_that_was_given_up_can_be_made_by_hand(post, receiver):
    created(post, receiver)
    receiver.plan = answering(500)
    post.end(post.submit())
    post.run()
    for delay in DELAYS:
        post.run(delay + 1)
    [(failed, _)] = post.log()
    receiver.plan = answering(200)
    again, attempts = post.webhooks.redeliver(failed.id)
    assert (failed.state, again.state, len(attempts)) == ("failed", "delivered", 11)
    assert attempts[-1].by_hand
    assert receiver.messages[-1].id == failed.id


def test_a_delivery_made_by_hand_is_not_made_again_by_the_schedule(post, receiver):
    created(post, receiver)
    receiver.plan = answering(500)
    post.end(post.submit())
    post.run()
    [(pending, _)] = post.log()
    receiver.plan = answering(200)
    post.webhooks.redeliver(pending.id)
    post.run(6)
    assert len(receiver.messages) == 2


def test_what_waits_behind_a_delivery_goes_on_when_it_is_made_by_hand(post, receiver):
    created(post, receiver, EVENTS)
    receiver.plan = answering(500)
    job = post.submit()
    post.happen(job, "state", state=State.RUNNING)
    post.run()
    post.run(6)
    post.happen(job, "state", state=State.SUCCEEDED)
    receiver.plan = answering(200)
    [(waiting, _)] = post.log()
    post.webhooks.redeliver(waiting.id)
    post.run()
    assert told(receiver) == ["fine_tuning.job.started"] * 3 + ["fine_tuning.job.succeeded"]


def test_a_receiver_that_repeats_what_it_was_sent_teaches_the_log_nothing(post, receiver):
    receiver.path = "/canary-path?token=canary-token"
    receiver.answers["/canary-path"] = receiver._take
    receiver.plan = lambda handler: answering(500, f"you asked for {handler.path}".encode())(handler)
    webhook, secret = created(post, receiver)
    post.webhooks.test(webhook.id)
    [(_, [attempt])] = post.log()
    assert attempt.answer == "you asked for …"
    tables = ("webhooks", "feeds", "webhook_deliveries", "webhook_attempts", "secrets")
    with post.database.read() as connection:
        stored = str([connection.exec_driver_sql(f"select * from {table}").all() for table in tables])
    assert "canary" not in stored
    assert secret not in stored
