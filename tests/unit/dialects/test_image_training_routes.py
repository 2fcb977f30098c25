"""What the routes look up before they translate."""

import pytest

from open_doors import open_doors
from tunesmith.dialects import image_training


@pytest.fixture
def doors(tmp_path):
    with open_doors(tmp_path) as doors:
        yield doors


def test_the_credentials_for_pictures_are_named_by_id_or_name(doors):
    client = doors.client("image_training", image_training)
    fields = {"access_key_id": "K", "secret_access_key": "canary"}
    kept = doors.services.secrets.create("local", name="shop", purpose="s3", fields=fields).id
    for named in (kept, "shop"):
        asked = {"trigger_word": "sks", "source_images": ["s3://shop/a.png"], "source_secret": named}
        answer = client.post("/api/v1/training", json=asked)
        assert answer.status_code == 200, answer.text
        assert "canary" not in answer.text
        [job] = doors.services.jobs.newest_first(limit=1)
        assert job.spec.data.train.secret == kept


def test_the_token_for_the_base_model_is_named_by_id_or_name(doors):
    client = doors.client("image_training", image_training)
    kept = doors.services.secrets.create("local", name="hub", purpose="hub", fields={"token": "hf_canary"}).id
    for named in (kept, "hub"):
        asked = {"trigger_word": "sks", "source_images": ["https://a.test/a.png"], "base_model_secret": named}
        answer = client.post("/api/v1/training", json=asked)
        assert answer.status_code == 200, answer.text
        assert "canary" not in answer.text
        [job] = doors.services.jobs.newest_first(limit=1)
        assert (job.spec.model.secret, job.spec.data.train.secret) == (kept, None)


@pytest.mark.parametrize("field", ["source_secret", "base_model_secret"])
def test_unknown_credentials_are_refused(doors, field):
    client = doors.client("image_training", image_training)
    answer = client.post("/api/v1/training", json={"trigger_word": "sks", field: "nothing"})
    assert answer.status_code == 404
    assert "No secret" in answer.json()["detail"]
    assert client.get("/api/v1/training").json() == []
