"""Rates, decay groups, step counts and order are those of transformers' Trainer."""

import pytest
import torch
import transformers
from transformers.trainer_pt_utils import get_parameter_names

from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.optim import build_optimizer, count_steps, learning_rate
from tunesmith.training.order import DataOrder

SPEC = {
    "learning_rate": 0.5,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "weight_decay": 0.1,
    "max_grad_norm": None,
    "epochs": 1.0,
    "max_steps": None,
    "batch_size": 4,
    "micro_batch_size": None,
    "seed": 3,
}


def _spec(**changes):
    return OptimizationSpec.model_validate(SPEC | changes)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.33])
def test_rates_equal_those_of_transformers(schedule, warmup):
    name = "constant_with_warmup" if schedule == "constant" else schedule
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    steps = -(-25 * warmup // 1)
    oracle = transformers.get_scheduler(name, optimizer, num_warmup_steps=int(steps), num_training_steps=25)
    for step in range(25):
        assert learning_rate(_spec(schedule=schedule, warmup_ratio=warmup), step, 25) == pytest.approx(
            oracle.get_last_lr()[0]
        )
        optimizer.step()
        oracle.step()


def test_a_job_of_one_step_still_trains():
    assert learning_rate(_spec(), 0, 1) == 0.5


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [
        ({}, 10, 3),
        ({"epochs": 2.0}, 10, 6),
        ({"epochs": 0.5}, 10, 2),
        ({"epochs": 1.5}, 8, 3),
        ({"epochs": 9.0, "max_steps": 5}, 10, 5),
        ({"max_steps": 50}, 10, 3),
        ({"batch_size": 64}, 10, 1),
    ],
)
def test_steps_are_counted_as_the_trainer_does(changes, rows, steps):
    assert count_steps(_spec(**changes), rows) == steps


def test_weights_of_norms_and_biases_do_not_decay():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    patterns = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    expected = set(get_parameter_names(model, [torch.nn.LayerNorm], patterns))
    decaying, others = build_optimizer(model, _spec()).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[parameter] for parameter in decaying["params"]} == expected & set(names.values())
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert len(decaying["params"]) + len(others["params"]) == len(names)


def test_every_epoch_sees_each_sequence_once_in_an_order_of_its_own():
    order = DataOrder(_spec(), 10)
    epochs = [[index for step in range(3) for index in order.batch(3 * epoch + step)] for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert DataOrder(_spec(), 10).batch(4) == epochs[1][4:8]
    assert [order.ends_epoch(step) for step in (1, 2, 3, 6)] == [False, False, True, True]
    assert order.epochs_after(3) == 1.0
