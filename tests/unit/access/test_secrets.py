import json
import logging
import shutil
import threading

import pytest
from sqlalchemy import update

from tunesmith.access.keyring import Keyring
from tunesmith.access.secrets import Secrets, open_secrets
from tunesmith.spec.errors import (
    ConflictError,
    InternalError,
    InvalidRequestError,
    SecretNotFoundError,
    SettingsError,
)
from tunesmith.store import tables

CANARY = "canary-7f3e9b21c4"
BUCKET = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": CANARY}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def secrets(database, folder):
    return open_secrets(database, folder)


def on_disk(tmp_path):
    return b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def key_files(folder):
    return sorted(file.name for file in folder.iterdir())


# --- keeping and revealing -------------------------------------------------------------------------------------------


def test_a_secret_is_revealed_for_its_purpose_and_host(secrets):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    assert dict(secrets.reveal("acme", made.id, purpose="s3", host=None)) == BUCKET
    assert dict(secrets.reveal("acme", made.id, purpose="s3", host="s3.amazonaws.com")) == BUCKET


def test_a_description_has_names_and_no_values(secrets):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    for shown in (made, secrets.describe("acme", made.id), *secrets.listed("acme")):
        assert shown.field_names == ("access_key_id", "secret_access_key")
        assert CANARY not in shown.model_dump_json() + repr(shown)


def test_what_is_revealed_cannot_be_logged_by_mistake(secrets, caplog):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    revealed = secrets.reveal("acme", made.id, purpose="s3", host=None)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r %s", revealed, revealed, {"nested": [revealed]})
    shown = caplog.text + f"{revealed}" + str([revealed])
    assert "secret_access_key" in shown
    assert CANARY not in shown
    with pytest.raises(TypeError):
        json.dumps(revealed)
    with pytest.raises(KeyError) as missing:
        revealed["nothing"]
    assert CANARY not in repr(missing.value)


def test_nothing_on_disk_holds_a_value(secrets, tmp_path, database):
    secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    id = secrets.put_for_request("acme", "hub", {"token": CANARY + "x"})
    secrets.replace("acme", id, {"token": CANARY + "y"})
    assert b"secret_access_key" in on_disk(tmp_path)  # the names may be told, so the right files were read
    assert CANARY.encode() not in on_disk(tmp_path)
    database.close()
    assert CANARY.encode() not in on_disk(tmp_path)


def test_equal_values_look_different(secrets, database):
    for name in ("a", "b"):
        secrets.create("acme", name=name, purpose="hub", fields={"token": CANARY})
    with database.read() as connection:
        one, other = connection.execute(tables.secrets.select()).all()
    assert one.sealed != other.sealed


def test_a_secret_of_a_request_has_no_name_and_is_not_listed(secrets):
    id = secrets.put_for_request("acme", "wandb", {"api_key": CANARY})
    assert secrets.describe("acme", id).name is None
    assert secrets.listed("acme") == []
    secrets.put_for_request("acme", "wandb", {"api_key": CANARY})  # several have no name
    secrets.delete("acme", id)
    with pytest.raises(SecretNotFoundError):
        secrets.describe("acme", id)


def test_a_name_is_taken_once_in_an_organisation(secrets):
    secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    secrets.create("other", name="bucket", purpose="s3", fields=BUCKET)
    with pytest.raises(ConflictError) as refused:
        secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    assert CANARY not in refused.value.info.sentence()


def test_a_replaced_secret_keeps_its_id_purpose_and_host(secrets):
    made = secrets.create("acme", name="hub", purpose="hub", fields={"token": "old"}, host="hub.example.org")
    after = secrets.replace("acme", made.id, {"token": "new"})
    assert (after.id, after.purpose, after.host) == (made.id, "hub", "hub.example.org")
    assert secrets.reveal("acme", made.id, purpose="hub", host="hub.example.org")["token"] == "new"


@pytest.mark.parametrize("host", [None, "minio.example.org:9000"])
def test_a_replaced_secret_cannot_be_led_to_another_host(secrets, host):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET, host=host)
    with pytest.raises(InvalidRequestError) as refused:
        secrets.replace("acme", made.id, {**BUCKET, "endpoint": "https://elsewhere.example.org"})
    assert CANARY not in refused.value.info.sentence()
    assert dict(secrets.reveal("acme", made.id, purpose="s3", host=host)) == BUCKET


# --- who may have it, and for what -----------------------------------------------------------------------------------


def test_a_secret_of_another_organisation_is_as_unknown_as_none(secrets):
    made = secrets.create("other", name="bucket", purpose="s3", fields=BUCKET)
    told = set()
    for id in (made.id, "f" * 32, "", "x" * 1000):
        for act in (
            secrets.describe,
            secrets.delete,
            lambda org, id: secrets.reveal(org, id, purpose="s3", host=None),
            lambda org, id: secrets.replace(org, id, BUCKET),
        ):
            with pytest.raises(SecretNotFoundError) as refused:
                act("acme", id)
            told.add(refused.value.info.sentence().replace(repr(id), "ID"))
    assert len(told) == 1
    assert dict(secrets.reveal("other", made.id, purpose="s3", host=None)) == BUCKET


@pytest.mark.parametrize(
    ("purpose", "host"),
    [
        ("s3", "elsewhere.example.org"),
        ("s3", "s3.amazonaws.com.example.org"),
        ("s3", "s3.amazonaws.com:80"),
        ("gcs", None),
        ("http", "s3.amazonaws.com"),
    ],
)
def test_another_purpose_or_host_is_refused_without_a_value(secrets, purpose, host):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    with pytest.raises(SecretNotFoundError) as refused:
        secrets.reveal("acme", made.id, purpose=purpose, host=host)
    told = refused.value.info.sentence()
    assert "s3 at s3.amazonaws.com" in told
    assert CANARY not in told


def test_a_secret_for_one_port_is_not_for_another(secrets):
    made = secrets.create("acme", name="m", purpose="mlflow", fields={"token": CANARY}, host="m.example.org:5000")
    assert secrets.reveal("acme", made.id, purpose="mlflow", host="m.example.org:5000")["token"] == CANARY
    for host in ("m.example.org", "m.example.org:5001", None):
        with pytest.raises(SecretNotFoundError):
            secrets.reveal("acme", made.id, purpose="mlflow", host=host)


@pytest.mark.parametrize("column", ["org", "purpose", "host", "sealed"])
def test_a_row_that_was_changed_in_the_database_reveals_nothing(secrets, database, column):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    other = secrets.create(
        "mallory", name="b", purpose="gcs", fields={"service_account_key": "{}"}, host="h.example.org"
    )
    with database.write() as connection:
        values = connection.execute(tables.secrets.select().where(tables.secrets.c.id == other.id)).one()._mapping
        connection.execute(
            update(tables.secrets).where(tables.secrets.c.id == made.id).values({column: values[column]})
        )
    org, purpose, host = "acme", "s3", None
    org = "mallory" if column == "org" else org
    purpose = "gcs" if column == "purpose" else purpose
    host = "h.example.org" if column == "host" else host
    with pytest.raises(InternalError, match="changed from outside"):
        secrets.reveal(org, made.id, purpose=purpose, host=host)


# --- rotation --------------------------------------------------------------------------------------------------------


def test_a_rotation_changes_key_and_contents_and_loses_nothing(secrets, database, folder):
    made = [secrets.create("acme", name=f"b{number}", purpose="s3", fields=BUCKET) for number in range(5)]
    kept = shutil.copytree(folder, folder.parent / "stolen")
    assert secrets.rotate() == 5
    assert key_files(folder) == ["0002.key"]
    for each in made:
        assert dict(secrets.reveal("acme", each.id, purpose="s3", host=None)) == BUCKET
    assert len(open_secrets(database, folder).listed("acme")) == 5
    with pytest.raises(SettingsError, match="do not open all secrets"):
        open_secrets(database, kept)


@pytest.mark.parametrize("times", [1, 3])
def test_a_rotation_that_was_cut_off_after_the_new_key_is_completed_by_the_next(database, folder, times):
    made = open_secrets(database, folder).create("acme", name="bucket", purpose="s3", fields=BUCKET)
    for _ in range(times):
        Keyring.open(folder, needed=True).add_key()
    again = open_secrets(database, folder)
    assert dict(again.reveal("acme", made.id, purpose="s3", host=None)) == BUCKET
    again.rotate()
    assert len(key_files(folder)) == 1
    assert dict(open_secrets(database, folder).reveal("acme", made.id, purpose="s3", host=None)) == BUCKET


def test_a_rotation_that_was_cut_off_before_its_commit_leaves_everything_readable(secrets, database, folder):
    made = [secrets.create("acme", name=f"b{number}", purpose="s3", fields=BUCKET) for number in range(3)]
    with database.write() as connection:
        connection.exec_driver_sql(
            f"create trigger cut before update on secrets when old.id = '{made[1].id}' "
            "begin select raise(abort, 'cut off'); end"
        )
    with pytest.raises(Exception, match="cut off"):
        secrets.rotate()
    for opened in (secrets, open_secrets(database, folder)):
        for each in made:
            assert dict(opened.reveal("acme", each.id, purpose="s3", host=None)) == BUCKET
    with database.write() as connection:
        connection.exec_driver_sql("drop trigger cut")
    assert secrets.rotate() == 3
    assert len(key_files(folder)) == 1


def test_secrets_are_read_and_made_while_keys_change(secrets, database, folder):
    made = secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    ended, failures, created = threading.Event(), [], []

    def repeat(act):
        try:
            while not ended.is_set():
                act()
        except Exception as error:
            failures.append(error)

    threads = [
        threading.Thread(target=repeat, args=(act,))
        for act in (
            lambda: secrets.reveal("acme", made.id, purpose="s3", host=None)["secret_access_key"],
            lambda: created.append(secrets.put_for_request("acme", "hub", {"token": CANARY})),
        )
    ]
    for thread in threads:
        thread.start()
    for _ in range(10):
        secrets.rotate()
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert created
    again = open_secrets(database, folder)
    assert {again.reveal("acme", id, purpose="hub", host=None)["token"] for id in created} == {CANARY}


class Interrupted:
    """A keyring at whose work something else happens first, once."""

    def __init__(self, ring):
        self._ring = ring
        self.meanwhile = None

    def __getattr__(self, name):
        return getattr(self._ring, name)

    def _let_happen(self):
        act, self.meanwhile = self.meanwhile, None
        if act:
            act()

    def unseal(self, sealed):
        self._let_happen()
        return self._ring.unseal(sealed)

    def seal(self, content):
        sealed = self._ring.seal(content)
        self._let_happen()
        return sealed


@pytest.mark.parametrize("work", ["reveal", "replace"])
def test_a_rotation_waits_for_work_that_has_begun_with_the_old_key(database, folder, work):
    ring = Interrupted(Keyring.open(folder, needed=False))
    secrets = Secrets(database, ring)
    id = secrets.put_for_request("acme", "hub", {"token": "old"})
    rotation = threading.Thread(target=secrets.rotate)

    def rotate_meanwhile():
        rotation.start()
        rotation.join(0.3)  # time enough to end, if nothing held it

    ring.meanwhile = rotate_meanwhile
    if work == "reveal":
        assert secrets.reveal("acme", id, purpose="hub", host=None)["token"] == "old"
    else:
        secrets.replace("acme", id, {"token": "new"})
    rotation.join()
    assert key_files(folder) == ["0002.key"]
    token = open_secrets(database, folder).reveal("acme", id, purpose="hub", host=None)["token"]
    assert token == ("old" if work == "reveal" else "new")


def test_a_database_whose_keys_are_gone_stops_the_start(secrets, database, folder):
    secrets.create("acme", name="bucket", purpose="s3", fields=BUCKET)
    shutil.rmtree(folder)
    with pytest.raises(SettingsError, match="missing"):
        open_secrets(database, folder)
    with pytest.raises(SettingsError, match="do not open all secrets"):
        open_secrets(database, _foreign(folder))


def _foreign(folder):
    Keyring.open(folder, needed=False)
    return folder


def test_keys_may_be_lost_while_there_are_no_secrets(secrets, database, folder):
    id = secrets.put_for_request("acme", "hub", {"token": CANARY})
    secrets.delete("acme", id)
    shutil.rmtree(folder)
    assert open_secrets(database, folder).listed("acme") == []


# --- what a secret may be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "n" * 129, "a\nb"])
def test_a_name_that_cannot_be_is_refused(secrets, name):
    with pytest.raises(InvalidRequestError) as refused:
        secrets.create("acme", name=name, purpose="s3", fields=BUCKET)
    assert refused.value.param == "name"
