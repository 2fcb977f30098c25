"""The tables. Times are seconds since the epoch, UTC; ids are 32 hexadecimal digits unless said otherwise."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
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
    Column("state", String(16), nullable=False, index=True),
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
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("report", JSON),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("report", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False),
    Column("base", Text, nullable=False),
    Column("kind", String(16), nullable=False),  # adapter | full
    Column("path", Text, nullable=False),
    Column("name", Text),  # the user's name for it; several versions may share it
    Column("version", Integer),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    UniqueConstraint("name", "version"),
)
