"""`/v1/models`: the base models of this server, what its jobs produced and what was brought in."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter

from tunesmith.dialects import Opened, Services
from tunesmith.dialects.openai import answers
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.spec.errors import ConflictError, ModelNotFoundError


def routes(mount: Mount) -> APIRouter:
    """The endpoints of models. A name may hold slashes, as hub names do."""
    router = APIRouter(prefix=f"{mount.prefix}/v1/models", tags=["models"])

    @router.get("", response_model=answers.Models)
    def list_models(services: Opened) -> dict[str, Any]:
        """List all models, produced ones first."""
        return {"object": "list", "data": _all(services)}

    @router.get("/{model:path}", response_model=answers.Model)
    def retrieve(services: Opened, model: str) -> dict[str, Any]:
        """Get a model."""
        for each in _all(services):
            if each["id"] == model:
                return each
        raise ModelNotFoundError(f"The model {model!r} does not exist.", param="model", hint="List the models.")

    @router.delete("/{model:path}", response_model=answers.Deleted)
    def delete(services: Opened, model: str) -> dict[str, Any]:
        """Delete a produced model and its weights."""
        if any(base.name == model for base in services.base_models.listed()):
            raise ConflictError(f"{model!r} is a base model; only produced models can be deleted.", param="model")
        services.produced_models.delete(model)
        return {"id": model, "object": "model", "deleted": True}

    return router


def _all(services: Services) -> list[dict[str, Any]]:
    produced = [
        _render(model.id, int(model.created_at), f"org-{model.org}") for model in services.produced_models.listed()
    ]
    return produced + [_render(base.name, _modified(base.path), "system") for base in services.base_models.listed()]


def _render(id: str, created: int, owned_by: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by}


def _modified(path: Path) -> int:
    config = path / "config.json"
    return int(config.stat().st_mtime) if config.exists() else 0
