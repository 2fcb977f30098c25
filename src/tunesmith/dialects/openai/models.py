"""`/v1/models`: the base models of this server and what its jobs produced."""

from typing import Any

from fastapi import APIRouter

from tunesmith.dialects import Services
from tunesmith.spec.errors import ConflictError, ModelNotFoundError


def routes(services: Services) -> APIRouter:
    """The endpoints of models. A name may hold slashes, as hub names do."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("")
    def list_models() -> dict[str, Any]:
        """List all models, produced ones first."""
        return {"object": "list", "data": _all(services)}

    @router.get("/{model:path}")
    def retrieve(model: str) -> dict[str, Any]:
        """Get a model."""
        for each in _all(services):
            if each["id"] == model:
                return each
        raise ModelNotFoundError(f"The model {model!r} does not exist.", param="model", hint="List the models.")

    @router.delete("/{model:path}")
    def delete(model: str) -> dict[str, Any]:
        """Delete a produced model and its weights."""
        if any(base.name == model for base in services.base_models.listed()):
            raise ConflictError(f"{model!r} is a base model; only produced models can be deleted.", param="model")
        services.produced_models.delete(model)
        return {"id": model, "object": "model", "deleted": True}

    return router


def _all(services: Services) -> list[dict[str, Any]]:
    produced = [_render(model.id, int(model.created_at), "org-local") for model in services.produced_models.listed()]
    bases = [_render(base.name, int(_modified(base.path)), "system") for base in services.base_models.listed()]
    return produced + bases


def _render(id: str, created: int, owned_by: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by}


def _modified(path: Any) -> float:
    config = path / "config.json"
    return float(config.stat().st_mtime) if config.exists() else 0.0
