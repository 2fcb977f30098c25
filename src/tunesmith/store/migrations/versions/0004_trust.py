"""How each later attempt of a job went on, and what a checkpoint's evaluation brought."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("resumes", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("resumes", server_default=None)
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("score", sa.Float(), nullable=True))
