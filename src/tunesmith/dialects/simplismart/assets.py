"""`/secret` and `/dataset`, which the origin has in its console only: extensions."""

from typing import Annotated

from fastapi import APIRouter, Form, Query

from tunesmith.access.boundaries import require_own
from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened
from tunesmith.dialects._forms import FAULTS, FormRoute
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.simplismart.answers import DatasetEntry, DatasetList, Deleted, SecretEntry, SecretList
from tunesmith.dialects.simplismart.jobs import OrgId
from tunesmith.dialects.simplismart.render import dataset_entry, secret_entry
from tunesmith.dialects.simplismart.wire import CreateDataset, CreateSecret

SecretId = Annotated[str, Query(min_length=1, max_length=128, description="Id or name of the secret.")]


def secrets() -> APIRouter:
    """The endpoints of secrets."""
    router = APIRouter(prefix="/secret", tags=["secrets"], route_class=StrictRoute, responses=FAULTS)

    @router.post("")
    def create(services: Opened, body: CreateSecret) -> SecretEntry:
        """Store credentials under a name (an extension)."""
        require_own(services.caller, body.org, param="org")
        require(services.caller, Action.CREATE_SECRETS)
        stored = services.secrets.create(
            services.caller.org, name=body.name, purpose=body.purpose, fields=body.fields, host=body.host
        )
        return secret_entry(stored)

    @router.get("")
    def list_secrets(services: Opened, org_id: OrgId) -> SecretList:
        """The secrets by name, without their fields (an extension)."""
        require_own(services.caller, org_id, param="org_id")
        found = services.secrets.listed(services.caller.org)
        return SecretList(secrets=[secret_entry(secret) for secret in found])

    @router.delete("")
    def delete(services: Opened, org_id: OrgId, secret_id: SecretId) -> Deleted:
        """Forget a secret (an extension)."""
        require_own(services.caller, org_id, param="org_id")
        require(services.caller, Action.MANAGE_SECRETS)
        secret = services.secrets.find(services.caller.org, secret_id, param="secret_id")
        services.secrets.delete(services.caller.org, secret.id)
        return Deleted(secret_id=secret.id, message="The secret is deleted.")

    return router


def datasets() -> APIRouter:
    """The endpoints of datasets."""
    router = APIRouter(prefix="/dataset", tags=["datasets"], route_class=FormRoute, responses=FAULTS)

    @router.post("")
    def create(
        services: Opened, form: Annotated[CreateDataset, Form(media_type="multipart/form-data")]
    ) -> DatasetEntry:
        """Register a file under a name, for the source_type `local` (an extension)."""
        require_own(services.caller, form.org, param="org")
        return dataset_entry(services.datasets.add(form.dataset_name, form.file.content, filename=form.file.filename))

    @router.get("")
    def list_datasets(services: Opened, org_id: OrgId) -> DatasetList:
        """The registered datasets by name (an extension)."""
        require_own(services.caller, org_id, param="org_id")
        return DatasetList(datasets=[dataset_entry(dataset) for dataset in services.datasets.listed()])

    return router
