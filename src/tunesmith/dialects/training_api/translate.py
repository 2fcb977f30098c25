"""From a training request to a spec. Pure: the dataset and the adapter it names are handed in."""

from tunesmith.dialects.training_api.wire import TrainingRequest
from tunesmith.integrations import Wish
from tunesmith.integrations._door import notes_on
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import (
    AdapterSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    IntegrationSpec,
    JobSpec,
    MethodSpec,
    Modality,
    ModelSpec,
    OptimizationSpec,
    StartSpec,
    Submission,
)

# Fixed in the configuration that the origin writes for LLaMA-Factory; alpha is that program's twice the rank.
_ADAPTER = AdapterSpec(rank=64, alpha=128, dropout=0, targets=("all-linear",))
_SEED = 42


# LLaMA-Factory's stages, with what it gives preference methods where its configuration says nothing.
_METHODS = {
    "pt": MethodSpec(kind="sft", parameters={"train_on": "all"}),
    "sft": MethodSpec(kind="sft"),
    "rm": MethodSpec(kind="reward"),
    "ppo": MethodSpec(kind="ppo"),
    "dpo": MethodSpec(kind="dpo", parameters={"beta": 0.1}),
    "kto": MethodSpec(kind="kto", parameters={"beta": 0.1}),
}


_PROJECT = "tunesmith"
_NO_MLFLOW = (
    "tracking_backend 'mlflow' has no effect: the operator of this server has not set mlflow_url. Metrics stay with "
    "the job."
)


def to_spec(request: TrainingRequest, *, train: DataSource, modality: Modality, adapter: StartSpec | None) -> JobSpec:
    """The canonical description of the asked training.

    Args:
        request: as it came over the wire.
        train: the dataset that `dataset_version` names.
        modality: what a model has to read that is trained on it.
        adapter: the one that `lora_hf_repo` names, or `lora_name` and `lora_version`, if there is one.

    Raises:
        UnsupportedError: a field asks for something that is not available.
    """
    if request.adapter_path is not None:
        raise UnsupportedError(
            "adapter_path names a folder of the server, which a request may not.",
            param="adapter_path",
            hint="Name an adapter of this server with lora_name and lora_version, or of the hub with lora_hf_repo.",
        )
    return JobSpec(
        model=ModelSpec(
            base=request.model_name,
            dtype="bfloat16",
            modality=modality,
            task="sequence_classification" if request.training_type == "rm" else "causal_lm",
        ),
        init_from=adapter,
        data=DataSpec(
            train=train,
            validation=None,
            max_length=request.cutoff_len,
            over_long="truncate",
            packing=False,
            max_samples=request.max_samples,
        ),
        method=_METHODS[request.training_type],
        adapter=_ADAPTER,
        optimization=OptimizationSpec(
            learning_rate=request.learning_rate,
            schedule="cosine",
            warmup_ratio=0.1,
            weight_decay=0.0,
            max_grad_norm=1.0,
            epochs=request.num_epochs,
            max_steps=None,
            batch_size=request.batch_size * request.gradient_accumulation_steps,
            micro_batch_size=None,
            seed=_SEED,
        ),
        cadence=CadenceSpec(eval_steps="epoch", save_steps=request.save_steps, keep_checkpoints=None),
    )


def tracker(request: TrainingRequest, mlflow_url: str | None) -> tuple[Wish, ...]:
    """What `tracking_backend` asks for: an account or a server that requests cannot name, so the organisation's or the
    operator's own. None without a server."""
    if request.tracking_backend == "wandb":
        settings = {"project": _PROJECT, "name": request.save_name, "entity": None, "tags": None}
        return (Wish("wandb", settings, "tracking_backend"),)
    if mlflow_url is None:
        return ()
    settings = {"tracking_uri": mlflow_url, "experiment_name": _PROJECT, "run_name": request.save_name, "tags": None}
    return (Wish("mlflow", settings, "tracking_backend"),)


def to_submission(
    request: TrainingRequest,
    *,
    when_busy: str,
    adapter: StartSpec | None,
    integrations: tuple[IntegrationSpec, ...] = (),
) -> Submission:
    """What travels beside the spec, with a note for each field that has no effect; `integrations` are the webhook that
    it names and its tracker."""
    kinds = {each.kind for each in integrations}
    notes = [
        *([_NO_MLFLOW] if request.tracking_backend == "mlflow" and "mlflow" not in kinds else []),
        *notes_on(integrations),
        f"template {request.template!r} is not applied: the chat template that comes with the model is.",
    ]
    if request.lora_hf_repo is not None:
        notes.append(f"Training continues from the adapter {request.lora_hf_repo!r} of the hub.")
    elif request.adapter_name is not None:
        named = f"{request.adapter_name!r}" + (f" version {request.lora_version!r}" if request.lora_version else "")
        if adapter is None:
            notes.append(
                f"No adapter of this base model is registered as {named}; training starts from the base model."
            )
        else:
            notes.append(f"Training continues from the adapter registered as {named}, {adapter.id}.")
    return Submission(
        dialect="training_api",
        request=request.model_dump(mode="json", exclude={"webhook_url"}),
        name=request.save_name or request.adapter_name,
        suffix=request.save_name,
        when_busy="reject" if when_busy == "reject" else "queue",
        integrations=integrations,
        notes=tuple(notes),
    )
