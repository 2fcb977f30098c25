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
    _require_text(attempt, "causal_lm")
    if attempt.spec.sampling is not None:
        from tunesmith.training.sampling import require_prompts  # imports transformers, which takes a while

        require_prompts(attempt)
    if attempt.inputs.adapter is not None:
        from tunesmith.training.adapters import require_trainable  # imports PEFT, which takes a while

        require_trainable(attempt.inputs.adapter)


def require_text_scoring(attempt: AttemptSpec) -> None:
    """Refuse what the methods that train a sequence classifier on text cannot honour.

    Raises:
        UnsupportedError: `param` is the first such path in the spec.
        ModelLoadError: the base model's architecture cannot score texts.
    """
    _require_text(attempt, "sequence_classification")
    if attempt.inputs.adapter is not None:
        raise UnsupportedError(
            f"The method {attempt.spec.method.kind!r} cannot continue from an adapter.",
            param="init_from",
            hint="Merge the adapter into its base model, and start from the result.",
        )
    from tunesmith.training.model import require_classifiable  # imports transformers, which takes a while

    require_classifiable(attempt.inputs.model)


def _require_text(attempt: AttemptSpec, task: str) -> None:
    adapted = attempt.spec.adapter is not None or attempt.inputs.adapter is not None
    for error in _beyond_text(attempt.spec, task):
        raise error
    if attempt.spec.model.quantization is not None and not adapted:
        raise UnsupportedError(
            "Quantized weights are frozen, so they cannot be tuned themselves.",
            param="model.quantization",
            hint="Train an adapter, or leave quantization out.",
        )


def require_rows_apart(attempt: AttemptSpec) -> None:
    """Refuse packing where a batch counts rows that are compared or judged as a whole.

    Raises:
        UnsupportedError: packing is asked for.
    """
    if attempt.spec.data.packing:
        raise UnsupportedError(
            f"Rows cannot be packed for the method {attempt.spec.method.kind!r}: `batch_size` counts rows.",
            param="data.packing",
            hint="Leave packing out. Rows are run without padding in any case.",
        )


def require_several_rows(attempt: AttemptSpec) -> None:
    """Refuse batches of one row where the rows of a batch are measured against each other.

    Raises:
        UnsupportedError: `batch_size` is 1.
    """
    if attempt.spec.optimization.batch_size < 2:
        raise UnsupportedError(
            f"The method {attempt.spec.method.kind!r} needs at least 2 rows in a batch, got 1: it measures how far the "
            "model has moved by giving each prompt the answer of another row of the batch.",
            param="optimization.batch_size",
        )


def _beyond_text(spec: JobSpec, task: str) -> Iterator[UnsupportedError]:
    model, resources = spec.model, spec.resources
    if model.modality != "text":
        yield UnsupportedError(
            f"The modality {model.modality!r} cannot be trained by the method {spec.method.kind!r}, only `text`.",
            param="model.modality",
        )
    if model.task != task:
        yield UnsupportedError(
            f"The task {model.task!r} cannot be trained by the method {spec.method.kind!r}, only `{task}`.",
            param="model.task",
        )
    if spec.data.images is not None:
        yield UnsupportedError(
            f"Pictures cannot be trained by the method {spec.method.kind!r}, only rows of text.", param="data.images"
        )
    if spec.sampling is not None and task != "causal_lm":
        yield UnsupportedError(
            f"A model of the method {spec.method.kind!r} scores texts and writes none, so it cannot be sampled.",
            param="sampling",
            hint="Leave sampling out; validation data shows how the scores change.",
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
