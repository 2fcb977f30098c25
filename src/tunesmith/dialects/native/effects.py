"""What a request asks for and cannot have: refused, or noted where a spec that an answer showed may hold it."""

from collections.abc import Iterator

from tunesmith.dialects import Services
from tunesmith.dialects.native.translate import kind_of
from tunesmith.dialects.native.wire import DataRequest, ModelRequest, SourceRequest, SpecRequest
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import QuantizationSpec, SelectionSpec, StartSpec

_OF_THE_HUB = ("revision", "secret")
_OF_SAMPLES = ("sample_width", "sample_height", "sample_guidance")


def refuse_contradictions(spec: SpecRequest) -> None:
    """See that no part of a request rules out another one.

    Raises:
        InvalidRequestError: one does; `param` is its path.
    """
    for path, source in _sources(spec.data):
        kind = kind_of(source)
        if source.region is not None and kind != "s3":
            raise _refusal(f"{path}.region", f"belongs to a bucket of S3, and these rows are of the kind {kind!r}.")
        if kind == "images" and spec.model.modality != "image":
            raise _refusal(f"{path}.kind", f"is 'images', and spec.model.modality is {spec.model.modality!r}.")
    if spec.data.images is not None and spec.data.train.kind != "images":
        raise _refusal("spec.data.images", "belongs to rows of the kind 'images'.")
    if spec.data.images is None and spec.data.train.kind == "images":
        raise _refusal("spec.data.images", "is required for rows of the kind 'images'.")
    if spec.init_from is not None and spec.init_from.kind != "hub":
        _refuse_hub_fields(spec.init_from)


def notes_on(services: Services, spec: SpecRequest) -> list[str]:
    """A sentence for each part of a request that has no effect."""
    notes = [note for path, source in _sources(spec.data) for note in _notes_on_rows(path, source)]
    if _is_here(services, spec.model):
        notes += [
            f"spec.model.{name} has no effect: {spec.model.base!r} is looked up on this server only."
            for name in _OF_THE_HUB
            if getattr(spec.model, name) is not None
        ]
    notes += _notes_on_training(spec)
    return notes


def _notes_on_training(spec: SpecRequest) -> Iterator[str]:
    quantization, usual = spec.model.quantization, QuantizationSpec(bits=4)
    if quantization is not None:
        idle = ("int8_threshold",) if quantization.bits == 4 else ("kind", "double")
        for name in idle:
            if getattr(quantization, name) != getattr(usual, name):
                yield f"spec.model.quantization.{name} has no effect on {quantization.bits} bits."
    if spec.sampling is None:
        for name in (name for name in _OF_SAMPLES if name in spec.method.parameters):
            yield f"spec.method.parameters.{name} has no effect without spec.sampling."
    yield from _notes_on_evaluations(spec)


def _notes_on_evaluations(spec: SpecRequest) -> Iterator[str]:
    data, selection, usual = spec.data, spec.selection, SelectionSpec()
    if data.validation is None and (data.split is None or not data.split.may_validate):
        idle = [name for name in ("metric", "best") if getattr(selection, name) != getattr(usual, name)]
        asked = ["spec.cadence.eval_steps"] if spec.cadence.eval_steps != "epoch" else []
        for path in (*asked, *(f"spec.selection.{name}" for name in idle)):
            yield (
                f"{path} has no effect: there are no rows to evaluate. Add spec.data.validation, or spec.data.split "
                "with a share for validation."
            )
    if selection.min_improvement and selection.patience is None:
        yield "spec.selection.min_improvement has no effect without spec.selection.patience."


def _sources(data: DataRequest) -> Iterator[tuple[str, SourceRequest]]:
    yield "spec.data.train", data.train
    if data.validation is not None:
        yield "spec.data.validation", data.validation


def _refuse_hub_fields(start: StartSpec) -> None:
    for name in _OF_THE_HUB:
        if getattr(start, name) is not None:
            raise _refusal(f"spec.init_from.{name}", f"belongs to a repository on the hub, not to a {start.kind}.")


def _notes_on_rows(path: str, source: SourceRequest) -> Iterator[str]:
    kind = kind_of(source)
    if kind not in ("file", "dataset", "hub") and source.revision is not None:
        yield f"{path}.revision has no effect on {kind}: what lies at the address now is fetched."
    if kind not in ("file", "dataset") and source.sha256 is not None:
        yield f"{path}.sha256 has no effect on an address: its content is fetched anew."


def _is_here(services: Services, model: ModelRequest) -> bool:
    """Whether the name is not looked up on the hub."""
    if model.source != "any":
        return model.source == "local"
    return services.base_models.has(model.base) or services.produced_models.find(model.base) is not None


def _refusal(path: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{path} {reason}", param=path, hint="Leave it out, or change what it does not fit.")
