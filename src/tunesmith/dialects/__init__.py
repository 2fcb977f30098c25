"""Dialects: one foreign API each. One module or folder a dialect; its name is the key.

A dialect offers:

- `PREFIXES`: the paths it owns, longest match wins;
- `routes() -> APIRouter`: its endpoints, with full paths and without trailing slashes. A handler takes a parameter of
  the type `Opened`: the doors, opened for the caller of this very request;
- `render_error(error, path) -> tuple[int, dict]`: status and body of an error in the dialect's own shape, `path` being
  that of the request;
- `render_job(job, services) -> dict`: any job, whoever made it, in the dialect's own words;
- `render_webhook(job, event, services) -> dict | None`, if its requests can name a webhook: what that is told of an
  event of the job; none = nothing.

`docs/dialects/` describes each of them; `CONTRIBUTING.md` walks through adding one.
"""

import threading
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from tunesmith.access.caller import Caller
from tunesmith.access.keys import ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.secrets import Secrets
from tunesmith.assets.checkpoint_permissions import CheckpointPermissions
from tunesmith.assets.custom_models import CustomModels
from tunesmith.assets.datasets import Datasets
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.assets.uploads import Uploads
from tunesmith.integrations._door import Integrations
from tunesmith.integrations.webhook.subscriptions import Webhooks
from tunesmith.jobs.exporting import Exports
from tunesmith.jobs.pushing import Pushes
from tunesmith.jobs.service import Jobs
from tunesmith.storage import Storage


@dataclass(frozen=True)
class Services:
    """What one caller's request may use. Jobs, files, datasets and models are those of the caller's organisation; the
    doors of access take the organisation as an argument."""

    caller: Caller
    jobs: Jobs
    files: Files
    uploads: Uploads
    datasets: Datasets
    base_models: BaseModels
    produced_models: ProducedModels
    custom_models: CustomModels
    exports: Exports
    pushes: Pushes
    checkpoint_permissions: CheckpointPermissions
    organisations: Organisations
    keys: ApiKeys
    secrets: Secrets
    webhooks: Webhooks
    integrations: Integrations
    storage: Storage
    max_upload_bytes: int
    ending: threading.Event
    """Set when the server is asked to end: streams end then."""
    hub_url: str | None
    """Address of the hub, whose host tokens for it are bound to."""


async def _opened(request: Request) -> Services:
    services: Services = request.state.services
    return services


Opened = Annotated[Services, Depends(_opened)]
