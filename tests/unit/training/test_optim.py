"""Rates, decay groups, step counts and order are those of transformers' Trainer."""

import math

import pytest
import torch
import transformers
from pydantic import ValidationError
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


NAMES = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}


@pytest.mark.parametrize(
    ("schedule", "decay"),
    [("linear", None), ("cosine", None), ("constant", None), ("inverse_sqrt", None), ("wsd", 0.2), ("wsd", 0.67)],
)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.33])
def test_rates_equal_those_of_transformers(schedule, decay, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    steps = math.ceil(25 * warmup)
    oracle = transformers.get_scheduler(
        NAMES.get(schedule, schedule),
        optimizer,
        num_warmup_steps=steps,
        num_training_steps=25,
        scheduler_specific_kwargs={"num_decay_steps": min(math.ceil(25 * decay), 25 - steps)} if decay else None,
    )
    spec = _spec(schedule=schedule, warmup_ratio=warmup, decay_ratio=decay)
    for step in range(25):
        assert learning_rate(spec, step, 25) == pytest.approx(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate_at_every_step_but_that_of_the_warm_up(total):
    rates = [
        learning_rate(_spec(schedule="wsd", warmup_ratio=0.5, decay_ratio=0.5), step, total) for step in range(total)
    ]
    assert rates[0] == (0.5 if total == 1 else 0.0)
    assert all(rates[1:])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "wsd"}, "needs a decay_ratio"),
        ({"schedule": "linear", "decay_ratio": 0.1}, "belongs to the schedule 'wsd'"),
        ({"schedule": "wsd", "warmup_ratio": 0.6, "decay_ratio": 0.5}, "exceed 1 together"),
    ],
)
def test_a_decay_that_does_not_fit_the_schedule_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        _spec(**changes)


@pytest.mark.parametrize(
    ("name", "trainers"),
    [("adamw", "adamw_torch_fused"), ("adafactor", "adafactor"), ("sgd", "sgd"), ("adamw_8bit", "adamw_bnb_8bit")],
)
def test_weights_walk_as_under_the_trainers_optimizer_of_that_name(name, trainers):
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(optim=trainers, learning_rate=0.5, weight_decay=0.1, report_to="none")
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    _walk_alike(name, lambda groups: kind(groups, **settings))


def test_adam_decays_weights_within_the_gradient_as_torch_does():
    _walk_alike("adam", lambda groups: torch.optim.Adam(groups, lr=0.5))


def _walk_alike(name, oracle_of):
    ends = []
    for build in (lambda model: build_optimizer(model, _spec(optimizer=name)), oracle_of):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(80, 96), torch.nn.LayerNorm(96))
        rest = [model[0].bias, *model[1].parameters()]
        groups = [{"params": [model[0].weight], "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = build(groups if build is oracle_of else model)
        for _ in range(8):
            model(torch.randn(5, 80)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-5)


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
