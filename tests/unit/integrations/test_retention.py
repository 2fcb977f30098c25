"""What was delivered long ago is forgotten, and nothing else."""

from receiver import answering
from tunesmith.integrations.webhook.catalogue import EVENTS
from tunesmith.integrations.webhook.retention import Retention

_DAY = 24 * 3600


def count(post, *tables):
    with post.database.read() as connection:
        return [connection.exec_driver_sql(f"select count(*) from {table}").scalar() for table in tables]


FEEDS = "feeds where kind = 'webhook'"
ALL = ("webhooks", FEEDS, "webhook_deliveries", "webhook_attempts", "secrets")


def test_deliveries_of_old_jobs_are_forgotten_with_what_the_jobs_brought_along(post, receiver):
    post.end(post.submit(url=receiver.hook))
    webhook, _ = post.webhooks.create(receiver.hook, events=EVENTS[:3], description=None, project=None)
    post.webhooks.test(webhook.id)
    post.end(post.submit())
    post.run()
    assert count(post, *ALL) == [1, 2, 3, 3, 2]
    post.clock.ahead += 29 * _DAY
    Retention(post.database, 30, post.clock).tick()
    assert count(post, *ALL) == [1, 2, 3, 3, 2]
    post.clock.ahead += 2 * _DAY
    Retention(post.database, 30, post.clock).tick()
    assert count(post, *ALL) == [1, 0, 0, 0, 1], "the webhook itself stays"


def test_what_is_still_to_be_delivered_is_not_forgotten(post, receiver):
    post.webhooks.create(receiver.hook, events=EVENTS, description=None, project=None)
    receiver.plan = answering(500)
    job = post.submit()
    post.happen(job, "state", state="running")
    post.run()
    post.clock.ahead += 400 * _DAY
    Retention(post.database, 30, post.clock).tick()
    assert count(post, FEEDS, "webhook_deliveries") == [1, 1]
    receiver.plan = answering(200)
    post.run()
    assert len(receiver.messages) == 2


def test_a_deleted_webhook_goes_with_its_url_at_once_and_with_its_log_in_time(post, receiver):
    webhook, _ = post.webhooks.create(receiver.hook, events=EVENTS[:3], description=None, project=None)
    post.end(post.submit())
    post.run()
    post.webhooks.delete(webhook.id)
    assert count(post, *ALL) == [1, 1, 1, 1, 0]
    assert [delivery.state for delivery, _ in post.log(webhook=webhook.id)] == ["delivered"]
    post.clock.ahead += 31 * _DAY
    Retention(post.database, 30, post.clock).tick()
    assert count(post, *ALL) == [0, 0, 0, 0, 0]
