"""What the engine cannot train, refused before anything is read."""

from collections.abc import Iterator

from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import AttemptSpec, JobSpec


def require_text_generation(attempt: AttemptSpec) -> None:
    """Refuse what the methods that train a causal language model on text cannot honour.

    Raises:
        UnsupportedError: `param` is the first such path in the spec.
        AdapterError: the adapter to continue from cannot be trained further.
    """
    adapted = attempt.spec.adapter is not None or attempt.inputs.adapter is not None
    for error in _beyond_text(attempt.spec):
        raise error
    if attempt.spec.model.quantization is not None and not adapted:
        raise UnsupportedError(
            "Quantized weights are frozen, so they cannot be tuned themselves.",
            param="model.quantization",
            hint="Train an adapter, or leave quantization out.",
        )
    if attempt.inputs.adapter is not None:
        from tunesmith.training.adapters import require_trainable  # imports PEFT, which takes a while

        require_trainable(attempt.inputs.adapter)


def _beyond_text(spec: JobSpec) -> Iterator[UnsupportedError]:
    model, resources = spec.model, spec.resources
    if model.modality != "text":
        yield UnsupportedError(
            f"The modality {model.modality!r} cannot be trained by the method {spec.method.kind!r}, only `text`.",
            param="model.modality",
        )
    if model.task != "causal_lm":
        yield UnsupportedError(
            f"The task {model.task!r} cannot be trained by the method {spec.method.kind!r}, only `causal_lm`.",
            param="model.task",
        )
    if spec.data.images is not None:
        yield UnsupportedError(
            f"Pictures cannot be trained by the method {spec.method.kind!r}, only rows of text.", param="data.images"
        )
    if spec.sampling is not None:
        yield UnsupportedError(
            "A language model cannot be sampled during its training.",
            param="sampling",
            hint="Leave sampling out, and ask the checkpoints afterwards.",
        )
    if resources is not None and resources.gpus_per_node * resources.nodes > 1:
        yield UnsupportedError(
            f"{resources.gpus_per_node * resources.nodes} GPUs cannot share one training; this engine uses one.",
            param="resources.gpus_per_node" if resources.gpus_per_node > 1 else "resources.nodes",
        )
    if resources is not None and resources.distribution is not None:
        yield UnsupportedError(
            f"The distribution {resources.distribution!r} has no use on one GPU.", param="resources.distribution"
        )
