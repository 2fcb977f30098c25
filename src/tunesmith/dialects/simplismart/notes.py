"""What a request asks for that has no effect, or another one than at the origin. Pure."""

from tunesmith.dialects.simplismart.wire import CreateJob

_HYPERPARAMETERS = "train_config.hyperparameters"
_PREPROCESSING = "dataset_config.preprocessing"


def notes_on(request: CreateJob, *, has_model: bool) -> list[str]:
    """A sentence for each requested thing that has no effect, or another one than at the origin.

    Args:
        request: as it came over the wire.
        has_model: whether this server itself has a model of the asked name.
    """
    config, preprocessing = request.train_config, request.dataset_config.preprocessing
    numbers, split = config.hyperparameters, request.dataset_config.split
    rows, model = request.dataset_details, request.model_details
    told = {
        f"{_PREPROCESSING}.lazy_tokenize has no effect: rows are prepared before training.": (
            preprocessing.lazy_tokenize is True
        ),
        f"{_PREPROCESSING}.streaming has no effect: rows are prepared before training.": preprocessing.streaming,
        f"{_PREPROCESSING}.prompt.template is not applied: the chat template that comes with the model is.": (
            preprocessing.prompt.template is not None
        ),
        "dataset_config.split: the rows of the third share, test, take no part in the training.": (
            split is not None and len(split.ratios) == 3 and split.ratios[2] > 0
        ),
        "train_config.torch_dtype 'float16' is carried out as bfloat16.": config.torch_dtype == "float16",
        f"train_config.tuner_backend {config.tuner_backend!r} has no effect: there is one.": (
            config.tuner_backend is not None
        ),
        "train_config.adapter_config has no effect: train_type 'full' trains all weights.": (
            config.adapter_config is not None and config.train_type == "full"
        ),
        "train_config.distributed.stage has no effect: a job trains on one device.": (
            config.distributed is not None and config.distributed.stage is not None
        ),
        f"{_HYPERPARAMETERS}.warmup_ratio has no effect on the schedule 'constant'; 'constant_with_warmup' has one.": (
            numbers.warmup_ratio > 0 and numbers.lr_scheduler_type == "constant"
        ),
        f"{_HYPERPARAMETERS}.num_epochs has no effect: max_steps takes its place.": (
            numbers.max_steps is not None and "num_epochs" in numbers.model_fields_set
        ),
        f"{_HYPERPARAMETERS}.per_device_eval_batch_size has no effect: how rows are evaluated changes no figure.": (
            numbers.per_device_eval_batch_size is not None
        ),
        f"{_HYPERPARAMETERS}.save_total_limit {numbers.save_total_limit} keeps the newest checkpoints; at the "
        "origin, the best one is among those that are kept.": numbers.save_total_limit is not None,
        f"{_HYPERPARAMETERS}.dataloader_num_workers has no effect: rows are prepared before training.": (
            numbers.dataloader_num_workers is not None
        ),
        f"model_details.base_model {model.base_model!r} is this server's own model; the hub is not asked.": (
            model.source_type == "hf" and has_model
        ),
        "model_details.secret_id has no effect: the source_type 'local' needs none.": (
            model.secret_id is not None and model.source_type == "local"
        ),
        "dataset_details.secret_id has no effect: the source_type 'local' needs none.": (
            rows.secret_id is not None and rows.source_type == "local"
        ),
        f"dataset_details.dataset_name {rows.dataset_name!r} is a label: nothing is registered under it.": (
            rows.source_type != "local" or rows.dataset_path.partition("@")[0] != rows.dataset_name
        ),
        f"dataset_details.region has no effect on the source_type {rows.source_type!r}.": (
            rows.region is not None and rows.source_type != "s3"
        ),
        f"infra_config.infra_type {request.infra_config.infra_type!r} has no effect: the job runs on this server.": (
            request.infra_config.infra_type is not None
        ),
    }
    return [sentence for sentence, applies in told.items() if applies]
