"""What is out of the ordinary is told, and what is only noisy is not."""

import random
from pathlib import Path
from typing import Any

import pytest

from attempts import attempt, chat, of_kind, run, write_rows
from tunesmith.spec.events import Anomaly, Metrics, Progressed
from tunesmith.training.watch import DIVERGED_STEPS, MIN_STEPS, SMOOTHED, Alarm, Levels, watched

pytestmark = pytest.mark.usefixtures("signals_kept")


def _alarms(losses: list[float], norms: list[float] | None = None) -> dict[int, list[Alarm]]:
    """By step, from 1."""
    levels, found = Levels(), {}
    for step, (loss, norm) in enumerate(zip(losses, norms or [1.0] * len(losses), strict=True), 1):
        levels, alarms = watched(levels, loss, norm)
        if alarms:
            found[step] = alarms
    return found


def _noisy(seed: int, kinds: tuple[float, ...] = (0.3, 1.5, 3.0)) -> tuple[list[float], list[float]]:
    """Losses and norms of batches of one row of very different kinds, falling over time."""
    draw = random.Random(seed)
    losses, norms = [], []
    for step in range(1500):
        level = draw.choice(kinds) * (0.4 + 0.6 * 0.998**step)
        losses.append(level * draw.lognormvariate(0, 0.3))
        norms.append((0.5 + level) * draw.lognormvariate(0, 0.4))
    return losses, norms


@pytest.mark.parametrize("seed", range(8))
def test_noise_raises_no_alarm(seed: int) -> None:
    assert _alarms(*_noisy(seed)) == {}


@pytest.mark.parametrize("seed", range(4))
def test_a_spike_in_noise_is_told_once(seed: int) -> None:
    losses, norms = _noisy(seed, kinds=(0.8, 1.0, 1.3))
    losses[700], norms[900] = 9.0, 60.0
    found = _alarms(losses, norms)
    assert {step: [(alarm.what, alarm.figure) for alarm in alarms] for step, alarms in found.items()} == {
        701: [("spike", "loss")],
        901: [("spike", "grad_norm")],
    }


def test_rows_of_a_rare_kind_raise_one_alarm_and_not_one_each() -> None:
    losses = [4.0 if step % 100 == 50 else 1.0 for step in range(1000)]
    assert list(_alarms(losses)) == [51]


def test_a_spike_while_the_loss_still_falls_is_told() -> None:
    losses = [6.0 * 0.93**step + 1 for step in range(60)]
    losses[34] = 7.0
    assert list(_alarms(losses)) == [35]


def test_the_first_steps_are_not_judged() -> None:
    assert _alarms([9.0, 1.0, 20.0, *[1.0] * 50]) == {}
    assert list(_alarms([1.0] * MIN_STEPS + [20.0])) == [MIN_STEPS + 1]


def test_losses_near_zero_may_multiply() -> None:
    assert _alarms([1e-4] * 100 + [0.5] + [1e-4] * 100) == {}


def test_constant_figures_raise_no_alarm() -> None:
    assert _alarms([0.0] * 200, [0.0] * 200) == {}


def test_a_loss_that_stays_high_is_told_as_a_divergence_once() -> None:
    rise = [1.0 + 0.02 * step for step in range(400)]
    [(step, [alarm])] = _alarms([1.0] * 100 + rise).items()
    assert (alarm.what, alarm.usual) == ("divergence", 1.0)
    assert 100 + DIVERGED_STEPS < step < 100 + DIVERGED_STEPS + 2 * SMOOTHED
    assert alarm.value > 1.5


def test_a_loss_that_comes_back_has_not_diverged() -> None:
    assert _alarms([1.0] * 100 + [1.0 + 0.05 * step for step in range(25)] * 1 + [1.0] * 200) == {}


def _varied(count: int) -> list[Any]:
    draw = random.Random(count)
    return [
        {
            "prompt": f"Say {number}",
            "completion": " ".join(draw.choices(("yes", "no", "42", "perhaps"), k=1 + number % 9)),
        }
        for number in range(count)
    ]


@pytest.mark.slow
def test_a_normal_training_on_single_noisy_rows_raises_no_alarm(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", _varied(120))
    _, events = run(attempt(tiny_model, rows, batch_size=1, epochs=2.0, save_steps=10_000), tmp_path / "run")
    assert len(of_kind(events, Metrics)) == 240
    assert of_kind(events, Anomaly) == []


@pytest.mark.slow
def test_a_row_of_garbage_is_told_with_its_line(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "Say it", "completion": "The answer is always the same."} for _ in range(120)]
    rows[70] = {"prompt": "Say it", "completion": "\u7e41\u9ad4\u5b57\u7db2\u9801" * 6}
    file = write_rows(tmp_path / "rows.jsonl", rows)
    order = attempt(tiny_model, file, batch_size=1, epochs=1.0, learning_rate=0.05, save_steps=10_000)
    _, events = run(order, tmp_path / "run")
    spike = of_kind(events, Anomaly)[0]
    assert (spike.what, spike.figure, spike.lines) == ("spike", "loss", (71,))
    assert spike.value > 3 * spike.usual
    assert of_kind(events, Metrics)[-1].step == 120


def test_the_step_is_told_between_reports(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(12))
    _, events = run(attempt(tiny_model, rows, log_steps=1000), tmp_path / "run")
    first = of_kind(events, Progressed)[0]
    assert (first.step, first.total_steps) == (1, 6)
    assert first.eta_seconds > 0
    assert [event.step for event in of_kind(events, Metrics)] == [6]


def test_no_step_is_told_twice_where_each_is_reported(tiny_model: Path, tmp_path: Path) -> None:
    _, events = run(attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(12))), tmp_path / "run")
    assert of_kind(events, Progressed) == []
