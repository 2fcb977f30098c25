"""Credentials for other services: what goes in never comes out."""

from fastapi import APIRouter

from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.access_answers import SecretAnswer
from tunesmith.dialects.native.access_wire import SecretFieldsRequest, SecretRequest
from tunesmith.dialects.native.answers import Deleted, Listing
from tunesmith.dialects.native.render import to_secret
from tunesmith.store.secrets import Secret


def routes() -> APIRouter:
    """The endpoints of secrets."""
    router = APIRouter(prefix="/secrets", tags=["secrets"], route_class=StrictRoute)

    @router.post("", summary="Store credentials")
    def create(services: Opened, body: SecretRequest) -> SecretAnswer:
        """Keep credentials, encrypted, under a name for requests to use."""
        require(services.caller, Action.CREATE_SECRETS)
        return to_secret(
            services.secrets.create(
                services.caller.org, name=body.name, purpose=body.purpose, fields=body.fields, host=body.host
            )
        )

    @router.get("", summary="List stored credentials")
    def list_secrets(services: Opened) -> Listing[SecretAnswer]:
        """The organisation's credentials by name, without their values."""
        return Listing(data=[to_secret(secret) for secret in services.secrets.listed(services.caller.org)])

    @router.get("/{secret}", summary="Get stored credentials")
    def retrieve(services: Opened, secret: str) -> SecretAnswer:
        """What is known of credentials, by id or name, without their values."""
        return to_secret(_find(services, secret))

    @router.put("/{secret}", summary="Replace stored credentials")
    def replace(services: Opened, secret: str, body: SecretFieldsRequest) -> SecretAnswer:
        """Other values, for the same purpose and host."""
        require(services.caller, Action.MANAGE_SECRETS)
        return to_secret(services.secrets.replace(services.caller.org, _find(services, secret).id, body.fields))

    @router.delete("/{secret}", summary="Delete stored credentials")
    def delete(services: Opened, secret: str) -> Deleted:
        """Forget credentials. Jobs that have not fetched their data yet fail."""
        require(services.caller, Action.MANAGE_SECRETS)
        found = _find(services, secret)
        services.secrets.delete(services.caller.org, found.id)
        return Deleted(id=found.id)

    return router


def _find(services: Services, reference: str) -> Secret:
    return services.secrets.find(services.caller.org, reference, param="secret")
