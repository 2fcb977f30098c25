"""What a server that is started does with credentials of requests: those that nothing needs are forgotten."""

from stored_jobs import job_spec
from tunesmith.access.caller import Caller, Role
from tunesmith.integrations import Wish
from tunesmith.jobs.admission import Admitted
from tunesmith.jobs.submitting import accept
from tunesmith.jobs.tidying import forget_orphans
from tunesmith.spec.job import ModelSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.store import feeds
from tunesmith.store import secrets as secret_rows

TOKEN = {"token": "canary"}


def known(database):
    with database.read() as connection:
        return set(secret_rows.all_sealed(connection))


def start_again(database):
    with database.write() as connection:
        forget_orphans(connection)


def with_token_for_its_model(tracked):
    """A job whose model is fetched with a token, and the token's id."""
    secret = tracked.secrets.put_for_request("acme", "hub", TOKEN)
    spec = job_spec(model=ModelSpec(base="m", dtype="float32", secret=secret))
    with tracked.database.write() as connection:
        job = accept(
            connection,
            Caller(org="acme", user=None, role=Role.MEMBER),
            Admitted(spec=spec, is_complete=True, notes=()),
            Submission(dialect="native", request={}),
        )
    return job, secret


def test_credentials_of_a_request_that_was_not_accepted_before_a_crash_are_forgotten_and_others_stay(tracked):
    named = tracked.secrets.create("acme", name="hub", purpose="hub", fields=TOKEN).id
    _, of_model = with_token_for_its_model(tracked)
    wish = Wish("mlflow", {"tracking_uri": "https://mlflow.example.org"}, "integrations.mlflow", {"password": "canary"})
    of_tracker = tracked.feed(tracked.submit(wish), "mlflow").secret_id
    for org in ("acme", "other"):
        tracked.secrets.put_for_request(org, "hub", TOKEN)
    start_again(tracked.database)
    assert known(tracked.database) == {named, of_model, of_tracker}


def test_credentials_that_a_crash_let_outlive_their_job_are_forgotten(tracked):
    job, _ = with_token_for_its_model(tracked)
    tracked.end(job, State.FAILED)
    wish = Wish("mlflow", {"tracking_uri": "https://mlflow.example.org"}, "integrations.mlflow", {"password": "canary"})
    feed = tracked.feed(tracked.submit(wish), "mlflow")
    with tracked.database.write() as connection:
        feeds.change(connection, feed.id, ended_at=1.0)
    start_again(tracked.database)
    assert known(tracked.database) == set()


def test_webhooks_keep_their_urls_until_they_are_deleted_or_their_log_is(post, receiver):
    kept, _ = post.webhooks.create(receiver.hook, events=("fine_tuning.job.failed",), description=None, project=None)
    gone, _ = post.webhooks.create(receiver.hook, events=("fine_tuning.job.failed",), description=None, project=None)
    job = post.submit(url=receiver.hook)
    post.end(job)
    post.run()
    with post.database.write() as connection:  # as a server leaves it that dies before it forgets the URL
        connection.exec_driver_sql("update webhooks set deleted_at = 1 where id = ?", (gone.id,))
    start_again(post.database)
    of_job = next(feed.secret_id for feed in post.feeds() if feed.webhook_id is None)
    assert known(post.database) == {kept.secret_id, of_job}
