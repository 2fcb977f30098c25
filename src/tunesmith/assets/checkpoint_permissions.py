"""Which projects of an organisation may use a checkpoint, as its owners wrote it down."""

import time
import uuid
from collections.abc import Sequence

from tunesmith.spec.errors import NotFoundError
from tunesmith.store import checkpoint_permissions
from tunesmith.store.checkpoint_permissions import CheckpointPermission
from tunesmith.store.database import Database


class CheckpointPermissions:
    """The door to the permissions of an organisation's checkpoints. That a checkpoint is the caller's is for the caller
    to know."""

    def __init__(self, database: Database, org: str) -> None:
        self._database = database
        self._org = org

    def grant(self, checkpoint_id: str, project_ids: Sequence[str]) -> list[CheckpointPermission]:
        """Permit a checkpoint to projects. One that has the permission keeps it."""
        with self._database.write() as connection:
            present = {
                each.project_id: each for each in checkpoint_permissions.of_checkpoint(connection, checkpoint_id)
            }
            for project_id in project_ids:
                if project_id not in present:
                    present[project_id] = checkpoint_permissions.add(
                        connection,
                        id=uuid.uuid4().hex,
                        org=self._org,
                        checkpoint_id=checkpoint_id,
                        project_id=project_id,
                        at=time.time(),
                    )
        return [present[project_id] for project_id in dict.fromkeys(project_ids)]

    def listed(self, checkpoint_id: str) -> list[CheckpointPermission]:
        """The permissions of a checkpoint, oldest first."""
        with self._database.read() as connection:
            return checkpoint_permissions.of_checkpoint(connection, checkpoint_id)

    def revoke(self, checkpoint_id: str, id: str) -> None:
        """Take a permission back.

        Raises:
            NotFoundError: the checkpoint has no such permission.
        """
        with self._database.write() as connection:
            if id not in [each.id for each in checkpoint_permissions.of_checkpoint(connection, checkpoint_id)]:
                raise NotFoundError(
                    "The checkpoint has no such permission.", param="permission_id", hint="List its permissions."
                )
            checkpoint_permissions.remove(connection, id)
