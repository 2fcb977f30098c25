"""One epoch of SmolLM2-135M-Instruct on a real public data set, on this machine: what `make real-run` runs.

A Tunesmith server trains a LoRA adapter on 1,119 problems of GSM8K, and plain transformers and peft measure the base
model and the tuned one on 200 others: loss of the worked answers, and how many problems are solved. The figures are
printed, and written to a file with `--json FILE`. Environment: as for the demo.
"""

import argparse
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support_triage"))

import base_model
import openai
from display import display_for
from follow import follow
from judging import Judge, Judgement
from problems import Problem, load_problems
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from service import INTERRUPTS, Service, ServiceError, interrupt
from surroundings import cache_folder, new_home, prepare_environment

_HYPERPARAMETERS: dict[str, Any] = {
    "n_epochs": 1,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.05,
    "lora": True,
    "lora_r": 16,
    "lora_alpha": 32,
    "packing": False,
}


def main() -> int:
    """Train, measure, print. Returns 0 if the held-out loss fell, 1 if not, 130 after a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    for number in INTERRUPTS:
        signal.signal(number, interrupt)
    prepare_environment()
    console = Console()
    service = Service(new_home())
    try:
        figures = _run(console, service)
    except KeyboardInterrupt:
        return 130
    except (ServiceError, openai.OpenAIError) as error:
        console.print(f"\nThe run failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    finally:
        service.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["tuned"]["loss"] < figures["base"]["loss"] else 1


def _run(console: Console, service: Service) -> dict[str, Any]:
    training, held_out = load_problems()
    console.print(f"{len(training):,} problems to train on, {len(held_out)} held out", highlight=False)
    model = base_model.convert(cache_folder() / "smollm2-135m-instruct")
    settings = f"[model_aliases]\n{json.dumps(base_model.NAME)} = {json.dumps(str(model))}\n"
    (service.home / "tunesmith.toml").write_text(settings, encoding="utf-8")
    service.start()
    began = time.monotonic()
    adapter = _train(console, service, training, held_out)
    seconds = time.monotonic() - began
    service.stop()
    judge = Judge(model, adapter)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as progress:
        judged = {}
        for name, ask in (("base", judge.base), ("tuned", judge.tuned)):
            bar = progress.add_task(f"held-out problems, {name} model", total=len(held_out))
            judged[name] = ask(held_out, lambda more, bar=bar: progress.advance(bar, more))
    console.print(_table(judged))
    console.print(f"Training took {seconds:.0f} s. The adapter: {adapter}", highlight=False, soft_wrap=True)
    return {"training_seconds": seconds} | {name: _figures(each) for name, each in judged.items()}


def _train(console: Console, service: Service, training: list[Problem], held_out: list[Problem]) -> Path:
    hyperparameters: Any = _HYPERPARAMETERS  # the client's types know OpenAI's three only; it sends them all
    job = service.client.fine_tuning.jobs.create(
        model=base_model.NAME,
        training_file=_upload(service, "train.jsonl", training),
        validation_file=_upload(service, "held_out.jsonl", held_out),
        suffix="gsm8k",
        hyperparameters=hyperparameters,
    )
    with display_for(console) as display:
        job = follow(service.client, job.id, display)
    if job.status != "succeeded":
        raise ServiceError(f"the job ended as {job.status}: {job.error.message if job.error else 'no reason is given'}")
    paths = {model["id"]: Path(model["path"]) for model in service.command("models", "list")}
    return paths[str(job.fine_tuned_model)]


def _upload(service: Service, name: str, problems: list[Problem]) -> str:
    lines = "".join(json.dumps({"messages": problem.messages}) + "\n" for problem in problems)
    return service.client.files.create(file=(name, lines.encode()), purpose="fine-tune").id


def _figures(judgement: Judgement) -> dict[str, Any]:
    return {"loss": judgement.loss} | dataclasses.asdict(judgement.score)


def _table(judged: dict[str, Judgement]) -> Table:
    table = Table(title="Held-out problems")
    for heading in ("model", "loss of worked answers", "gives a result behind ####", "right", "last number right"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, each in judged.items():
        found = each.score
        shares = [f"{part / found.total:.1%}" for part in (found.marked, found.right, found.right_at_end)]
        table.add_row(name, f"{each.loss:.3f}", *shares)
    return table


if __name__ == "__main__":
    sys.exit(main())
