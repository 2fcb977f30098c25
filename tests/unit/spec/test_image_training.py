"""What a job on pictures cannot ask for, field by field: whatever a spec can hold is honoured or refused."""

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.image_training import PIPELINES, require_image_training
from tunesmith.spec.job import JobSpec
from tunesmith.training.diffusion.folder import FAMILIES

SPEC: dict[str, Any] = {
    "model": {"base": "flux", "dtype": "bfloat16", "modality": "image"},
    "init_from": None,
    "data": {
        "train": {"kind": "images", "id": "pictures", "sha256": None},
        "validation": None,
        "max_length": 512,
        "over_long": "truncate",
        "packing": False,
        "max_samples": None,
        "images": {
            "sources": ["https://example.test/a.png"],
            "trigger_word": "sks",
            "captioning": "trigger_only",
            "resolution": [512],
        },
    },
    "method": {"kind": "text_to_image"},
    "adapter": {"rank": 4, "alpha": 4, "dropout": 0, "targets": ["all-linear"]},
    "optimization": {
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_grad_norm": None,
        "epochs": 1,
        "max_steps": None,
        "batch_size": 1,
        "micro_batch_size": None,
        "seed": 1,
    },
    "cadence": {"eval_steps": "epoch", "save_steps": "epoch", "keep_checkpoints": None},
    "sampling": {"prompts": ["sks"], "every": 10, "denoising_steps": 20},
}

HONOURED = {
    "model.base", "model.dtype", "model.modality", "model.source", "model.revision", "model.secret",
    "model.quantization.bits", "model.quantization.kind", "model.quantization.double",
    "model.quantization.int8_threshold",
    "data.train.id", "data.train.sha256", "data.train.secret", "data.max_length", "data.split.ratios",
    "data.images.sources", "data.images.captioning",
    "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets",
    "optimization.optimizer", "optimization.learning_rate", "optimization.schedule", "optimization.warmup_ratio",
    "optimization.decay_ratio", "optimization.weight_decay", "optimization.max_grad_norm", "optimization.epochs",
    "optimization.max_steps", "optimization.batch_size", "optimization.micro_batch_size",
    "optimization.gradient_checkpointing", "optimization.on_out_of_memory", "optimization.seed",
    "cadence.eval_steps", "cadence.save_steps", "cadence.keep_checkpoints", "cadence.log_steps",
    "cadence.evaluate_first",
    "selection.metric", "selection.best", "selection.patience", "selection.min_improvement", "selection.result",
    "sampling.every",
}  # fmt: skip

ELSEWHERE = {
    "model.task": "admission: the method's TASKS",
    "method.kind": "admission: the method's MODALITIES",
    "method.parameters": "admission: the method's Parameters",
    "data.train.region": "belongs to a bucket of S3: refused by the native dialect, never written by the other",
    "data.train.pictures": "a digest that the preparation writes for rows, which image training does not take",
    "data.train.revision": "noted by the native dialect, never written by the other",
    "data.split.column": "belongs to the split by column, which is refused",
    "sampling.top_p": "belongs to a temperature, which is refused",
    "sampling.seed": "belongs to a temperature, which is refused",
    "resources.gpu_type": "admission: adjusted or refused as the operator says",
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "init_from.kind": ({"init_from": {"kind": "model", "id": "m"}}, "init_from"),
    "data.train.kind": ({"data.train": {"kind": "file", "id": "f", "sha256": None}}, "data.train"),
    "data.validation.kind": ({"data.validation": SPEC["data"]["train"]}, "data.validation"),
    "data.over_long": ({"data.over_long": "drop"}, "data.over_long"),
    "data.packing": ({"data.packing": True}, "data.packing"),
    "data.max_samples": ({"data.max_samples": 1}, "data.max_samples"),
    "data.sample_ratio": ({"data.sample_ratio": 0.5}, "data.sample_ratio"),
    "data.reading.format": ({"data.reading": {"format": "text"}}, "data.reading"),
    "data.reading.columns": ({"data.reading": {"columns": {"image": "photo"}}}, "data.reading"),
    "data.reading.template": ({"data.reading": {"template": "{a}"}}, "data.reading"),
    "data.reading.system": ({"data.reading": {"system": "be kind"}}, "data.reading"),
    "data.split.by": ({"data.split": {"by": "column", "column": "part"}}, "data.split.by"),
    "data.images.trigger_word": ({"data.images.trigger_word": "s" * 129}, "data.images.trigger_word"),
    "data.images.caption_prompt": ({"data.images.caption_prompt": "a photo"}, "data.images.caption_prompt"),
    "data.images.transforms": ({"data.images.transforms": [{"type": "blur"}] * 65}, "data.images.transforms"),
    "data.images.resolution": ({"data.images.resolution": []}, "data.images.resolution"),
    "adapter.scaling": ({"adapter.scaling": "rank_stabilized"}, "adapter.scaling"),
    "adapter.decomposed": ({"adapter.decomposed": True}, "adapter.decomposed"),
    "adapter.init": ({"adapter.init": "pissa"}, "adapter.init"),
    "optimization.neftune_noise_alpha": (
        {"optimization.neftune_noise_alpha": 5.0}, "optimization.neftune_noise_alpha",
    ),
    "sampling.prompts": (
        {"sampling.prompts": ["sks", [{"role": "user", "content": "sks"}]]}, "sampling.prompts.1",
    ),
    "sampling.denoising_steps": ({"sampling.denoising_steps": 1001}, "sampling.denoising_steps"),
    "sampling.max_new_tokens": ({"sampling.max_new_tokens": 5}, "sampling.max_new_tokens"),
    "sampling.temperature": ({"sampling.temperature": 0.5}, "sampling.temperature"),
    "resources.gpus_per_node": ({"resources": {"gpus_per_node": 2, "nodes": 1}}, "resources.gpus_per_node"),
    "resources.nodes": ({"resources": {"gpus_per_node": 1, "nodes": 2}}, "resources.nodes"),
    "resources.distribution": (
        {"resources": {"gpus_per_node": 1, "nodes": 1, "distribution": "ddp"}}, "resources.distribution",
    ),
}  # fmt: skip

WHOLE = ("init_from", "data.validation")
"""Parts that are refused whatever they hold."""


def changed(changes):
    """The spec with other values at some paths."""
    values = JobSpec.model_validate(SPEC).model_dump(mode="json")
    for path, value in changes.items():
        *parts, name = path.split(".")
        place = values
        for part in parts:
            place = place[part]
        place[name] = value
    return JobSpec.model_validate(values)


def leaves(model, prefix=""):
    """Paths of all fields that hold no further ones."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        part = next((each for each in inner if issubclass(each, BaseModel)), None)
        if part is None or name == "prompts":
            yield prefix + name
        else:
            yield from leaves(part, f"{prefix}{name}.")


def test_every_field_of_a_spec_is_honoured_or_refused():
    paths = {path for path in leaves(JobSpec) if not path.startswith(WHOLE)}
    decided = [*HONOURED, *ELSEWHERE, *(path for path in REFUSED if not path.startswith(WHOLE))]
    assert sorted(decided) == sorted(paths)


def test_what_can_be_honoured_is_let_through():
    require_image_training(changed({}))
    require_image_training(changed({"data.split": {"by": "random", "ratios": [0.9, 0.1]}, "selection.patience": 3}))
    require_image_training(changed({"data.images.captioning": "custom", "data.images.caption_prompt": "a [trigger]"}))
    require_image_training(changed({"data.images.trigger_word": "", "sampling": None, "adapter": None}))


@pytest.mark.parametrize("path", REFUSED)
def test_what_cannot_be_honoured_is_refused_at_its_path(path):
    changes, param = REFUSED[path]
    with pytest.raises(TunesmithError) as caught:
        require_image_training(changed(changes))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"data.images": None}, "data.images"),
        ({"data.images.resolution": [512, 0]}, "data.images.resolution.1"),
        ({"data.images.resolution": [8193]}, "data.images.resolution.0"),
        ({"data.images.resolution": [64] * 17}, "data.images.resolution"),
        ({"data.images.captioning": "custom"}, "data.images.caption_prompt"),
        ({"data.images.captioning": "custom", "data.images.caption_prompt": " "}, "data.images.caption_prompt"),
        ({"data.images.captioning": "auto", "data.images.caption_prompt": "w" * 2001}, "data.images.caption_prompt"),
        ({"adapter": None, "model.quantization": {"bits": 4}}, "model.quantization"),
        ({"sampling.denoising_steps": None}, "sampling.denoising_steps"),
    ],
)
def test_what_contradicts_itself_is_refused_at_its_path(changes, param):
    with pytest.raises(TunesmithError) as caught:
        require_image_training(changed(changes))
    assert caught.value.param == param


def test_the_families_that_are_let_through_are_those_of_the_engine():
    assert {family.pipeline_class: family.name for family in FAMILIES} == PIPELINES
