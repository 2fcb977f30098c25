"""Base models and produced models."""

from fastapi import APIRouter

from tunesmith.dialects import Opened
from tunesmith.dialects.native.answers import Deleted, Listing, ModelAnswer
from tunesmith.dialects.native.render import to_base_model, to_produced_model
from tunesmith.spec.errors import ModelNotFoundError


def routes() -> APIRouter:
    """The endpoints of models."""
    router = APIRouter(prefix="/models", tags=["models"])

    @router.get("", summary="List models")
    def list_models(services: Opened) -> Listing[ModelAnswer]:
        """Produced models, newest first, then the base models of this server."""
        produced = [to_produced_model(model) for model in services.produced_models.listed()]
        return Listing(data=produced + [to_base_model(model) for model in services.base_models.listed()])

    @router.get("/{model_id:path}", summary="Get a model")
    def retrieve(services: Opened, model_id: str) -> ModelAnswer:
        """A produced model by its id, or a base model by its name."""
        produced = services.produced_models.find(model_id)
        if produced is not None:
            return to_produced_model(produced)
        for base in services.base_models.listed():
            if base.name == model_id:
                return to_base_model(base)
        raise ModelNotFoundError(f"No model is called {model_id!r}.", param="model_id", hint="List the models.")

    @router.delete("/{model_id:path}", summary="Delete a produced model")
    def delete(services: Opened, model_id: str) -> Deleted:
        """Delete a produced model with its weights and its exports. The job that made it stays; base models are the
        operator's. A model on which adapters rest, or which a job that has not ended uses, is refused."""
        services.produced_models.delete(model_id)
        return Deleted(id=model_id)

    return router
