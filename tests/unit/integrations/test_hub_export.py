"""How a job's result gets to a hub: a push that is taken when the job has succeeded, and followed."""

import pytest

from tunesmith.integrations import Wish
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
from tunesmith.spec.lifecycle import State
from tunesmith.store import pushes

TOKEN = "hf_canary"


def wish(repo="owner/result"):
    return Wish("hub", {"output_repo_name": repo}, "integrations.0.hf", {"token": TOKEN})


@pytest.fixture
def hub(tracked):
    tracked.hub_url = "https://huggingface.co"
    return tracked


def push_of(tracked):
    with tracked.database.read() as connection:
        found = pushes.unfinished(connection)
    assert len(found) < 2
    return found[0] if found else None


def settle(tracked, push, state, error=None):
    with tracked.database.write() as connection:
        pushes.change(connection, push.id, state=state, error=error, commit="c" if state == "done" else None)


def test_a_push_is_taken_when_the_job_has_succeeded_and_its_token_forgotten_when_it_is_done(hub):
    job, feeder = hub.submit(wish()), hub.feeder("hub")
    hub.happen(job, "state", state=State.RUNNING)
    hub.run(feeder, 1)
    assert push_of(hub) is None
    hub.end(job, with_model=True)
    hub.run(feeder, 1)
    push = push_of(hub)
    assert (push.repo, push.private, push.format, push.secret) == (
        "owner/result", True, "adapter", hub.feed(job, "hub").secret_id,
    )  # fmt: skip
    hub.run(feeder, 2)
    assert push_of(hub) == push, "one push, however often it is looked at"
    assert hub.standing(job, "hub").state == "active"
    settle(hub, push, "done")
    hub.run(feeder, 2)
    hub.run(feeder, 2)
    standing = hub.standing(job, "hub")
    assert (standing.state, standing.url) == ("done", "https://huggingface.co/owner/result")
    assert hub.known_secrets() == []


def test_a_push_that_broke_off_is_made_again(hub):
    job, feeder = hub.submit(wish()), hub.feeder("hub")
    hub.end(job, with_model=True)
    hub.run(feeder, 1)
    settle(hub, push_of(hub), "failed", {"code": "push_failed", "message": "The push broke off."})
    hub.run(feeder, 2)
    assert hub.standing(job, "hub").error == "The push broke off."
    assert push_of(hub).state == "queued"


def test_a_push_that_can_never_succeed_ends_it_with_the_reason(hub):
    job, feeder = hub.submit(wish()), hub.feeder("hub")
    hub.end(job, with_model=True)
    hub.run(feeder, 1)
    settle(hub, push_of(hub), "failed", {"code": "source_credentials", "message": "The hub does not let this token."})
    hub.run(feeder, 2)
    standing = hub.standing(job, "hub")
    assert (standing.state, standing.error) == ("failed", "The hub does not let this token.")
    assert hub.known_secrets() == []


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_job_without_a_result_pushes_nothing(hub, state):
    job, feeder = hub.submit(wish()), hub.feeder("hub")
    hub.end(job, state)
    hub.run(feeder, 1)
    hub.run(feeder, 1)
    assert push_of(hub) is None
    assert hub.standing(job, "hub").state == "done"
    assert hub.known_secrets() == []


@pytest.mark.parametrize("repo", ["result", "", "a/b/c", "../x", "a b/c", "owner/" + "n" * 200])
def test_names_that_no_repository_has_are_refused_at_once(hub, repo):
    with pytest.raises(InvalidRequestError) as raised:
        hub.submit(wish(repo))
    assert raised.value.param == "integrations.0.hf.output_repo_name"
    assert TOKEN not in str(raised.value)
    assert hub.known_secrets() == []


def test_a_server_without_a_hub_refuses(tracked):
    with pytest.raises(UnsupportedError):
        tracked.submit(wish())
