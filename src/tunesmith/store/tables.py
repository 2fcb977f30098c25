"""The tables. Times are seconds since the epoch, UTC; ids are 32 hexadecimal digits unless said otherwise.

`org` is the id of the organisation that owns a row; it is no foreign key, because that of an open server has no row.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only counts up by itself for a column of exactly this type.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),  # order of arrival
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("project", String(64)),
    Column("created_by", Text),
    Column("state", String(16), nullable=False, index=True),
    Column("priority", Integer, nullable=False),
    Column("priority_changed_at", Float),
    Column("idempotency_key", String(255)),
    Column("dialect", String(64), nullable=False),
    Column("name", Text),
    Column("labels", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("submission", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("step", Integer, nullable=False, default=0),
    Column("total_steps", Integer),
    Column("trained_tokens", BigInteger, nullable=False, default=0),
    Column("estimated_finish", Float),
    Column("error", JSON),
    Column("model_id", Text),
    Column("result_file_id", String(32)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fruitless_losses", Integer, nullable=False, default=0),  # workers lost since the last new checkpoint
    Column("resumes", JSON, nullable=False, default=list),  # how each later attempt went on
    Column("tracking_url", Text),  # where a person can follow it in a tracker
    UniqueConstraint("org", "idempotency_key"),
    Index(None, "org", "number"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("device", Text, nullable=False),
    Column("claimed_by", String(32), nullable=False),  # the server that drives it
    Column("claim_expires_at", Float, nullable=False),
    Column("handle", JSON),
    Column("events_offset", BigInteger, nullable=False, default=0),  # bytes of events.jsonl already applied
    Column("started_at", Float, nullable=False),
    Column("stop_requested_at", Float),
    Column("settled", Boolean, nullable=False, default=False),  # its terminal event was applied
    Column("ended_at", Float, index=True),  # its process is gone and its device free
    Column("exit", JSON),
)

events = Table(
    "events",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),  # order of happening
    Column("id", String(32), nullable=False, unique=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer),
    Column("at", Float, nullable=False),
    Column("level", String(8), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "job_id", "number"),
    Index(None, "job_id", "kind", "number"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("path", Text, nullable=False),  # absolute folder
    Column("offered", Boolean, nullable=False),  # belongs to the requested cadence
    Column("metrics", JSON, nullable=False),
    Column("score", Float),  # the figure by which the job chooses the best; none without an evaluation at its step
    Column("files", JSON, nullable=False),  # ids of its downloadable files
    Column("created_at", Float, nullable=False),
    Column("removed_at", Float),
    UniqueConstraint("job_id", "attempt", "path"),
)

files = Table(
    "files",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("report", JSON),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, index=True),
    Column("deleted_at", Float),
    Index(None, "org", "number"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("org", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),  # counts up from 1 for each name
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("report", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
)

models = Table(
    "models",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("job_id", String(32), ForeignKey("jobs.id")),  # none for one that was brought in
    Column("base", Text, nullable=False),
    Column("base_revision", String(255)),  # commit of a base from the hub
    Column("kind", String(16), nullable=False),  # adapter | full
    Column("path", Text, nullable=False),
    Column("name", Text),  # the user's name for it; several versions may share it
    Column("description", Text),
    Column("version", Integer),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    UniqueConstraint("org", "name", "version"),
)

organisations = Table(
    "organisations",
    metadata,
    Column("id", String(64), primary_key=True),  # chosen by whoever creates it
    Column("name", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("org", String(64), primary_key=True),
    Column("user", String(255), primary_key=True),  # as tokens name it in `sub`
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(40), primary_key=True),  # proj_ and 32 hexadecimal digits
    Column("org", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("archived_at", Float),
    UniqueConstraint("org", "name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("org", String(64), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("user", String(255)),
    Column("project", String(40), ForeignKey("projects.id")),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the whole key
    Column("last_four", String(4), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("last_used_at", Float),
    Column("revoked_at", Float),
)

secrets = Table(
    "secrets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("name", String(128)),  # none for one that arrived inside a request
    Column("purpose", String(16), nullable=False),
    Column("host", Text),
    Column("field_names", JSON, nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # the fields, encrypted
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("org", "name"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # as announced
    Column("lifetime", Float),  # seconds that the file is to be kept; none = until it is deleted
    Column("status", String(16), nullable=False),  # pending | completed | cancelled | expired
    Column("file_id", String(32)),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index(None, "status", "expires_at"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("upload_id", String(32), ForeignKey("uploads.id"), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
)

checkpoint_permissions = Table(
    "checkpoint_permissions",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("checkpoint_id", String(32), ForeignKey("checkpoints.id"), nullable=False),
    Column("project_id", String(64), nullable=False),  # on an open server any text
    Column("created_at", Float, nullable=False),
    UniqueConstraint("checkpoint_id", "project_id"),
)

custom_models = Table(
    "custom_models",
    metadata,
    Column("id", Text, ForeignKey("models.id"), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("source", String(16), nullable=False),  # checkpoint | file | hub
    Column("source_id", Text, nullable=False),
)

exports = Table(
    "exports",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),  # order of arrival
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("model_id", Text, ForeignKey("models.id"), nullable=False, index=True),
    Column("options", JSON, nullable=False),
    Column("state", String(16), nullable=False, index=True),  # queued | running | ready | failed
    Column("attempts", Integer, nullable=False),
    Column("handle", JSON),  # how the runner finds the worker
    Column("progress", JSON),
    Column("files", JSON, nullable=False),
    Column("verification", JSON),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("deleted_at", Float),
)

pushes = Table(
    "pushes",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),  # order of arrival
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("model_id", Text, ForeignKey("models.id"), nullable=False, index=True),
    Column("export_id", String(32), ForeignKey("exports.id")),
    Column("repo", Text, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("secret", String(32), nullable=False),
    Column("format", String(16), nullable=False),  # adapter | weights | merged | gguf
    Column("state", String(16), nullable=False, index=True),  # queued | running | done | failed
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger),
    Column("commit", String(64)),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("org", String(64), nullable=False, index=True),
    Column("project", String(64)),
    Column("description", Text),
    Column("address", Text, nullable=False),  # scheme and host; the whole URL is sealed beside the signing secret
    Column("events", JSON, nullable=False),
    Column("secret_id", String(32), nullable=False),
    Column("previous_until", Float),  # until then the former signing secret signs as well
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("disabled_at", Float),
    Column("disabled_because", Text),
    Column("deleted_at", Float),
)

feeds = Table(
    "feeds",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("org", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # the integration
    Column("webhook_id", String(32), ForeignKey("webhooks.id"), index=True),  # none for what the job itself asked for
    Column("settings", JSON, nullable=False),
    Column("secret_id", String(32)),  # none where no credentials are needed
    Column("cursor", BigInteger, nullable=False),  # number of the last event that is dealt with
    Column("failures", Integer, nullable=False, default=0),  # of the event behind the cursor
    Column("due_at", Float, nullable=False),
    Column("gave_up_at", Float),
    Column("progress", JSON, nullable=False, default=dict),  # what the integration has to remember
    Column("url", Text),  # where a person can look
    Column("told_at", Float),  # when something was last told
    Column("error", Text),  # why the last try failed; none once it succeeded
    Column("error_at", Float),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Index(None, "ended_at", "due_at"),
)

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("project", String(64)),
    Column("job_id", String(32), index=True),  # none for a test
    Column("feed_id", String(32)),
    Column("webhook_id", String(32), index=True),  # none for the webhook of a job
    Column("event_number", BigInteger),
    Column("event", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False, index=True),
    Column("finished_at", Float),
    UniqueConstraint("feed_id", "event_number"),
    Index(None, "org", "number"),
)

delivery_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", String(32), ForeignKey("webhook_deliveries.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # counts up from 1 for each delivery
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    Column("status", Integer),
    Column("answer", Text, nullable=False),
    Column("error", Text),
)
