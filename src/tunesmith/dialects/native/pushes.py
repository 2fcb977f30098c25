"""Produced models to a hub."""

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import Listing, PushAnswer
from tunesmith.spec.frozen import Frozen
from tunesmith.store.pushes import Push, PushFormat


class PushRequest(Frozen):
    """Body of `POST /models/{model_id}/pushes`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    repo: str = Field(max_length=200)
    """`owner/name` of a model repository; it is made if there is none."""

    secret: str = Field(max_length=128)
    """Id or name of the stored token for the hub."""

    format: PushFormat
    private: bool = True
    """Of a repository that is made; one that exists stays as it is."""

    export: str | None = Field(default=None, max_length=64)
    """Id of the export to send; without it the newest ready one of the format."""


def routes() -> APIRouter:
    """The endpoints of pushes."""
    router = APIRouter(prefix="/models/{model_id:path}/pushes", tags=["pushes"], route_class=StrictRoute)

    @router.post("", summary="Push a model to a hub")
    def create(services: Opened, model_id: str, body: PushRequest) -> PushAnswer:
        """Send a model's own files, or a ready export of it, to a repository on the hub, in one commit."""
        return to_push(
            services.pushes.create(
                model_id,
                repo=body.repo,
                private=body.private,
                secret=body.secret,
                format=body.format,
                export=body.export,
            )
        )

    @router.get("", summary="List pushes")
    def list_pushes(services: Opened, model_id: str) -> Listing[PushAnswer]:
        """A model's pushes, newest first."""
        return Listing(data=[to_push(push) for push in services.pushes.listed(model_id)])

    @router.get("/{push_id}", summary="Get a push")
    def retrieve(services: Opened, model_id: str, push_id: str) -> PushAnswer:
        """One push and how far it is."""
        return to_push(services.pushes.get(model_id, push_id))

    return router


def to_push(push: Push) -> PushAnswer:
    """A push as the API tells it."""
    return PushAnswer(
        id=push.id,
        model=push.model_id,
        repo=push.repo,
        private=push.private,
        format=push.format,
        export=push.export_id,
        state=push.state,
        bytes_done=push.bytes_done,
        bytes_total=push.bytes_total,
        commit=push.commit,
        error=push.error,
        created_at=push.created_at,
        finished_at=push.finished_at,
    )
