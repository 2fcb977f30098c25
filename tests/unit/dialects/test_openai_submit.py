"""What stays of a request's token when no job comes of it."""

from types import SimpleNamespace

import pytest

from tunesmith.access.caller import LOCAL
from tunesmith.access.secrets import open_secrets
from tunesmith.dialects.openai.mounts import NEBIUS
from tunesmith.dialects.openai.reading import read_create_job
from tunesmith.dialects.openai.submit import submit
from tunesmith.integrations._door import Integrations
from tunesmith.sources import Limits
from tunesmith.spec.errors import UnavailableError
from tunesmith.store import secrets as rows
from tunesmith.store.database import Database

REQUEST = {
    "model": "m",
    "training_file": "file-" + "a" * 32,
    "from_checkpoint": {"repo": "owner/name", "token": "hf_token"},
}


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield database
    database.close()


@pytest.mark.parametrize("fault", [UnavailableError("no"), MemoryError(), KeyboardInterrupt()])
def test_a_token_is_forgotten_whatever_ends_the_submission(database, tmp_path, fault):
    secrets = open_secrets(database, tmp_path / "keys")
    kept = []

    def refuse(_id, *, param):
        with database.read() as connection:
            kept.extend(rows.all_sealed(connection))
        raise fault

    services = SimpleNamespace(
        caller=LOCAL,
        secrets=secrets,
        integrations=Integrations(database, secrets, Limits(max_bytes=1), LOCAL, hub_url=None, mlflow_url=None),
        hub_url=None,
        files=SimpleNamespace(get=refuse),
        jobs=SimpleNamespace(submit=None),
    )
    with pytest.raises(type(fault)):
        submit(services, read_create_job(REQUEST, NEBIUS), project=None, idempotency_key=None)
    assert len(kept) == 1
    with database.read() as connection:
        assert rows.all_sealed(connection) == {}
