"""Every fault of a request is answered with what is wrong, where, and what to do; none is a server error."""

import json

import openai
import pytest

from rows import chat_rows


@pytest.fixture(scope="module")
def file_id(server):
    answer = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", chat_rows())})
    return answer.json()["id"]


def create(server, **fields):
    return server.http.post("/v1/fine_tuning/jobs", json=fields)


def upload(server, content, purpose="fine-tune"):
    return server.http.post("/v1/files", data={"purpose": purpose}, files={"file": ("rows.jsonl", content)})


def train_on(server, content, **fields):
    sent = upload(server, content)
    if sent.status_code != 200:
        return sent
    return create(server, model="tiny", training_file=sent.json()["id"], **fields)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"\n\n  \n", "no rows"),
        (b"hello\n", "no rows"),
        (b'{"text": "a"}\n{"text": \n', "line 2"),
        (json.dumps([{"text": "a"}, "b"]).encode(), "row 2"),
        (b'{\n  "text": "a"\n}\n', "line 1"),
        ('{"text": "é"}\n'.encode("latin-1"), "UTF-8"),
        ('{"text": "é"}\n'.encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04" + b"x" * 50, "zip"),
        (b"PAR1\x15" + b"x" * 50, "arquet"),
        (b'{"text": "a"}\n[1, 2]\n', "line 2"),
        (b'{"text": NaN}\n', "NaN"),
        (b'{"text": "a", "text": "b"}\n', "twice"),
    ],
    ids=["empty", "blank", "text", "broken line", "array", "pretty", "latin-1", "utf-16", "zip", "parquet", "list row",
         "nan", "duplicate key"],
)  # fmt: skip
def test_a_file_that_is_not_rows_is_refused_at_once(server, content, expected):
    answer = upload(server, content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert expected.lower() in error["message"].lower()
    assert error["code"] == "invalid_dataset"


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + chat_rows(), chat_rows().replace(b"\n", b"\r\n")])
def test_a_byte_order_mark_and_windows_line_ends_are_accepted(server, content):
    assert upload(server, content).status_code == 200


ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "assistant"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}, ROW["messages"][1]]}, "robot"),
        ({"messages": [{"role": "user", "content": 5}, ROW["messages"][1]]}, "content"),
        ({"messages": [ROW["messages"][0], {"role": "assistant", "content": "b", "weight": 0}]}, "weight"),
        ({"prompt": "a"}, "completion"),
    ],
    ids=["no assistant turn", "no messages", "unknown role", "content is a number", "all weights 0", "no completion"],
)
def test_rows_that_cannot_be_trained_are_refused_with_their_line(server, row, expected):
    content = (
        chat_rows() + json.dumps(row).encode() + b"\n" if "messages" in row else (json.dumps(row) + "\n").encode() * 10
    )
    answer = train_on(server, content)
    assert answer.status_code == 400
    assert expected in answer.json()["error"]["message"]
    if "messages" in row:
        assert "line 13" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_only_over_long_rows_are_refused_before_a_device_is_taken(server):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "word " * 20_000}]}
    answer = train_on(server, (json.dumps(row) + "\n").encode() * 10)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "training_file"
    assert answer.json()["error"]["code"] == "nothing_to_train"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "nobody/nothing"}, "model"),
        ({"model": "../../etc"}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"training_file": "file-" + "0" * 32}, "training_file"),
        ({"training_file": "nonsense"}, "training_file"),
        ({"validation_file": "file-" + "0" * 32}, "validation_file"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"learning_rat": 1}}, "hyperparameters.learning_rat"),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"temperature": 1}, "temperature"),
        ({"method": {"type": "dpo"}}, "training_file"),
        ({"method": {"type": "magic"}}, "method.type"),
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_named(server, file_id, fields, param):
    answer = create(server, **({"model": "tiny", "training_file": file_id} | fields))
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.json()["detail"][0]["loc"] == ["body", *param.split(".")]


def test_an_unknown_model_is_told_with_what_was_looked_for_and_where(server, file_id):
    error = create(server, model="nobody/nothing", training_file=file_id).json()["error"]
    assert error["code"] == "model_not_found"
    for word in ("nobody/nothing", "aliases", "'tiny'", "roots"):
        assert word in error["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"model": "a", "model": "b"}', "application/json", 400),
        (b'{"seed": NaN}', "application/json", 400),
        (b'{"model": "a\\u0000b"}', "application/json", 400),
        (b'{"model": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b'{"model": "' + b"x" * 2_000_000 + b'"}', "application/json", 413),
    ],
    ids=[
        "empty",
        "broken",
        "list",
        "not UTF-8",
        "duplicate key",
        "NaN",
        "U+0000",
        "surrogate",
        "deep",
        "text",
        "form",
        "large",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(server, body, content_type, status):
    for path in ("/v1/fine_tuning/jobs", "/train"):
        answer = server.http.post(path, content=body, headers={"content-type": content_type})
        assert answer.status_code == (422 if path == "/train" and status == 400 else status), answer.text
        assert "error" in answer.json() or "detail" in answer.json()


@pytest.mark.parametrize("call", ["retrieve", "cancel", "pause", "resume", "list_events"])
def test_an_unknown_job_is_a_404_in_openais_words(client, call):
    with pytest.raises(openai.NotFoundError) as caught:
        getattr(client.fine_tuning.jobs, call)("ftjob-" + "0" * 32)
    assert caught.value.code == "fine_tune_not_found"
    assert caught.value.param == "fine_tune_id"


def test_an_unknown_and_a_deleted_file_answer_alike(client, upload):
    deleted = upload().id
    client.files.delete(deleted)
    for id in (deleted, "file-" + "0" * 32, "nonsense"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.files.retrieve(id)
        assert caught.value.code == "file_not_found"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=ftjob-1", "after=nonsense"])
def test_a_bad_page_is_refused(server, query):
    answer = server.http.get(f"/v1/fine_tuning/jobs?{query}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("address", ["/v1/fine_tuning/jobs?metadata[a%00b]=x", "/v1/files/%00", "/train/%00"])
def test_the_character_zero_is_refused(server, address):
    assert server.http.get(address).status_code in (400, 422)


def test_an_unknown_route_and_method_answer_in_the_dialects_shape(server):
    assert server.http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert server.http.delete("/v1/fine_tuning/jobs").status_code == 405
    assert "detail" in server.http.get("/nothing").json()


def test_a_foreign_host_is_refused(server):
    answer = server.http.get("/v1/models", headers={"host": "attacker.example"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"


def test_a_purpose_of_its_own_is_refused(server):
    answer = upload(server, chat_rows(), purpose="holiday")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "purpose"


def test_a_file_for_another_purpose_is_no_training_file(server):
    other = upload(server, b"anything", purpose="assistants").json()["id"]
    answer = create(server, model="tiny", training_file=other)
    assert answer.json()["error"]["param"] == "training_file"


def test_every_answer_has_a_request_id_and_final_conflicts_are_not_retried(server):
    answer = server.http.get("/v1/fine_tuning/jobs/ftjob-x")
    assert answer.headers["x-request-id"].startswith("req_")
