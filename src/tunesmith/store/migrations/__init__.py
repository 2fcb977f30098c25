"""Schema changes, one file each, applied by Alembic when a server starts on an older database."""
