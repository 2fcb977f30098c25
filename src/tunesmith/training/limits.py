"""What the engine cannot train, refused before anything is read."""

from collections.abc import Iterator

from tunesmith.spec.engine_limits import beyond_one_device
from tunesmith.spec.errors import AdapterError, UnsupportedError
from tunesmith.spec.job import ALL_LINEAR, AdapterSpec, AttemptSpec, JobSpec


def require_text_generation(attempt: AttemptSpec, modalities: tuple[str, ...] = ("text",)) -> None:
    """Refuse what the methods that train a model to write cannot honour. `modalities` are what it may read.

    Raises:
        UnsupportedError: `param` is the first such path in the spec.
        AdapterError: the adapter cannot be put on the model, or the one to continue from cannot be trained further.
        ModelLoadError: the model's configuration cannot be used.
    """
    _require_text(attempt, "causal_lm", modalities)
    from tunesmith.training.model import require_writer  # imports transformers, which takes a while

    starts_whole = attempt.spec.init_from is not None and attempt.inputs.adapter is None
    param = "init_from" if starts_whole else "model.base"
    require_writer(attempt.inputs.model, attempt.spec.model.modality, param)
    if attempt.spec.sampling is not None:
        from tunesmith.training.sampling import require_prompts  # imports transformers, which takes a while

        require_prompts(attempt)
    _require_adapter(attempt, None)


def require_text_scoring(attempt: AttemptSpec, scores: int | None) -> None:
    """Refuse what the methods that train a sequence classifier on text cannot honour.

    `scores` is how many the model is to give; none = as many as the adapter to continue from, or as the rows tell.

    Raises:
        UnsupportedError: `param` is the first such path in the spec.
        AdapterError: as for `require_text_generation`, or the adapter to continue from gives other scores.
        ModelLoadError: the base model's architecture cannot score texts.
    """
    _require_text(attempt, "sequence_classification", ("text",))
    from tunesmith.training.model import require_classifiable  # imports transformers, which takes a while
    from tunesmith.training.score_model import HEAD, continued_scores

    require_classifiable(attempt.inputs.model)
    _require_adapter(attempt, HEAD)
    own = continued_scores(attempt)
    if None not in (own, scores) and own != scores:
        raise AdapterError(
            f"The adapter to continue from gives {own} scores, and {scores} are asked for.",
            param="init_from",
            hint="Continue from one that was trained for as many, or from none.",
        )


def _require_adapter(attempt: AttemptSpec, head: str | None) -> None:
    """See that the adapter fits the model, without reading weights. Imports PEFT, which takes a while."""
    model, asked = attempt.spec.model, attempt.spec.adapter
    if attempt.inputs.adapter is not None:
        from tunesmith.training.adapters import require_trainable

        decomposed = bool(require_trainable(attempt.inputs.adapter, head).get("use_dora"))
    else:
        decomposed = asked is not None and asked.decomposed
        if asked is not None and _names_layers(asked):
            from tunesmith.training.model import load_skeleton
            from tunesmith.training.targets import require_targets
            from tunesmith.training.vision_parts import beyond_parts

            skeleton = load_skeleton(attempt.inputs.model, model)
            require_targets(skeleton, asked, head, beyond_parts(skeleton, attempt.spec))
    if decomposed and model.quantization is not None and model.quantization.bits == 8:
        raise UnsupportedError(
            "Magnitudes cannot be trained apart (DoRA) over 8-bit weights: PEFT takes them off such weights anew in "
            "every pass, and loses the weights' scales by it on processors.",
            param="init_from" if attempt.inputs.adapter is not None else "adapter.decomposed",
            hint="Quantize to 4 bits, or train an adapter of another kind.",
        )


def _names_layers(adapter: AdapterSpec) -> bool:
    """Whether an adapter asks something of the model's layers that not every model has."""
    return adapter.targets != ALL_LINEAR or adapter.init != "random"


def _require_text(attempt: AttemptSpec, task: str, modalities: tuple[str, ...]) -> None:
    adapted = attempt.spec.adapter is not None or attempt.inputs.adapter is not None
    for error in _beyond_text(attempt.spec, task, modalities):
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


def _beyond_text(spec: JobSpec, task: str, modalities: tuple[str, ...]) -> Iterator[UnsupportedError]:
    model = spec.model
    if model.modality not in modalities:
        allowed = " and ".join(f"`{each}`" for each in modalities)
        yield UnsupportedError(
            f"The modality {model.modality!r} cannot be trained by the method {spec.method.kind!r}, only {allowed}.",
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
    yield from beyond_one_device(spec)
