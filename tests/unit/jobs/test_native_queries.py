"""Keys of queries, and ids in the form of another API, as the native dialect answers them."""

import pytest

from tunesmith.dialects import native
from tunesmith.spec.errors import ModelNotFoundError


@pytest.fixture
def job(house):
    return house.submit(labels={"team": "help desk"})


@pytest.mark.parametrize(
    ("query", "param", "hint"),
    [
        ("lines=5", "lines", "It has `limit`, `after`, `project`, `state`, `labels[…]`."),
        ("limit=1&limit=2", "limit", "Give it once."),
        ("labels[team]=a&labels[team]=b", "labels[team]", "Give it once."),
        ("labels[]=a", "labels[]", "It has `limit`, `after`, `project`, `state`, `labels[…]`."),
        ("labels=a", "labels", "It has `limit`, `after`, `project`, `state`, `labels[…]`."),
        ("=", "", "It has `limit`, `after`, `project`, `state`, `labels[…]`."),
        ("%C3%A4=1", "ä", "It has `limit`, `after`, `project`, `state`, `labels[…]`."),
    ],
)
def test_a_key_that_is_unknown_or_repeated_is_refused_with_those_that_there_are(call, query, param, hint):
    answer = call(f"/jobs?{query}")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["hint"]) == ("invalid_request", param, hint)


def test_known_keys_are_taken(call, job):
    answer = call("/jobs?limit=5&state=queued&labels[team]=help%20desk")
    assert [each["id"] for each in answer.json()["data"]] == [job.id]


@pytest.mark.parametrize("path", ["/jobs/{id}", "/jobs/{id}/checkpoints", "/models"])
def test_a_route_without_a_query_takes_none(call, job, path):
    answer = call(f"{path.format(id=job.id)}?verbose=1")
    assert answer.status_code == 422
    assert answer.json()["error"]["hint"] == "It has none."


@pytest.mark.parametrize("path", ["events/stream", "metrics/stream", "log/stream"])
def test_a_stream_refuses_unknown_keys_before_it_begins(call, job, path):
    answer = call(f"/jobs/{job.id}/{path}?from=1")
    assert answer.status_code == 422
    assert answer.json()["error"]["hint"] == "It has `after`."


@pytest.mark.parametrize("suffix", ["", "/events", "/checkpoints"])
def test_an_id_in_the_form_of_openai_is_answered_with_its_form_here(call, job, suffix):
    answer = call(f"/jobs/ftjob-{job.id}{suffix}")
    assert answer.status_code == 404
    assert answer.json()["error"]["hint"] == f"Ids of this API are 32 hexadecimal digits without a prefix: '{job.id}'."


def test_an_unknown_id_has_no_such_hint(call):
    assert call("/jobs/ftjob-0").json()["error"]["hint"] is None


@pytest.mark.parametrize("prefix", ["ftjob-", ""])
@pytest.mark.parametrize("suffix", ["", "@best"])
def test_a_job_named_as_a_model_is_told_where_it_belongs(job, prefix, suffix):
    error = ModelNotFoundError(f"No model is called {f'{prefix}{job.id}{suffix}'!r}.", param="model.base")
    _, body = native.render_error(error, "/tunesmith/v1/jobs")
    assert "`init_from`" in body["error"]["hint"]
    assert body["error"]["param"] == "spec.model.base"
