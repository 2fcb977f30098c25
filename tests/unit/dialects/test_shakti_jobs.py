"""Requests against the routes, over a real database."""

import pytest

from open_doors import open_doors
from tunesmith.dialects import shakti


@pytest.fixture
def doors(tmp_path):
    with open_doors(tmp_path) as doors:
        yield doors


@pytest.fixture
def client(doors):
    return doors.client("shakti", shakti)


def listed(client, **query):
    return client.get("/api/llm/training_job/list", params={"org_id": "o", **query}).json()["training_jobs"]


def test_jobs_are_listed_in_pages(doors, client):
    doors.add_jobs(101)
    first = listed(client)
    assert len(first) == 100
    second = listed(client, offset=99, count=5)
    assert (len(second), second[0]) == (2, first[99])


@pytest.mark.parametrize("query", [{"count": 0}, {"count": 1001}, {"offset": -1}, {"count": "all"}])
def test_bad_pages_are_400(client, query):
    answer = client.get("/api/llm/training_job/list", params={"org_id": "o", **query})
    assert (answer.status_code, next(iter(query)) in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("request_id", ["nonsense", "550e8400-e29b-41d4-a716-446655440000"])
def test_unknown_jobs_are_404(client, request_id):
    for path in ("get", "get/mlflow-metrics"):
        query = {"org_id": "o", "request_id": request_id}
        assert client.get(f"/api/llm/training_job/{path}", params=query).status_code == 404
