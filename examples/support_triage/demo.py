"""Fine-tune a small language model on this machine and see the difference: what `make demo` runs.

A Tunesmith server is started, the unmodified `openai` client uploads rows, creates a LoRA job and follows it, and the
produced adapter is tried on held-out messages with plain transformers and peft. Nothing leaves the machine.

Environment: TUNESMITH_DEMO_CACHE (converted model; default ~/.cache/tunesmith), TUNESMITH_DEMO_DIR (one new home per
run; default .demo in the repository).
"""

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import base_model
import openai
from compare import compare
from display import display_for
from follow import follow
from openai.types.fine_tuning import FineTuningJob
from rich.console import Console
from service import INTERRUPTS, Service, ServiceError, interrupt
from surroundings import cache_folder, new_home, prepare_environment
from triage import Row, load_rows

_HERE = Path(__file__).resolve().parent
_TRAIN, _HELDOUT = _HERE / "train.jsonl", _HERE / "heldout.jsonl"

_HYPERPARAMETERS: dict[str, Any] = {
    "n_epochs": 2,
    "batch_size": 4,
    "learning_rate": 2e-3,
    "warmup_ratio": 0.05,
    "lora": True,
    "lora_r": 16,
    "lora_alpha": 32,
    "packing": False,
}


class DemoError(Exception):
    """The demo cannot show what it promises; the message says why."""


def main() -> int:
    """Run the demo. Returns 0 if the tuned model beats its base, 1 if not, 130 after a signal."""
    for number in INTERRUPTS:
        signal.signal(number, interrupt)
    console = Console()
    prepare_environment()
    service = Service(new_home())
    try:
        return _guarded_tour(console, service)
    except ServiceError as error:  # of the stop itself
        console.print(f"\n{error}", style="red", markup=False, highlight=False)
        return 1


def _guarded_tour(console: Console, service: Service) -> int:
    """The tour, after which nothing runs any more, however it ends."""
    try:
        _tour(console, service)
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            console.print("\nInterrupted: stopping the job and the server ...", highlight=False)
        service.stop()
        with suppress(OSError):
            console.print("Stopped. No process of the demo is left.", highlight=False)
        return 130
    except (DemoError, ServiceError, openai.OpenAIError) as error:
        console.print(f"\nThe demo failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        console.print(f"The server's log: {service.log}", markup=False, highlight=False, soft_wrap=True)
        return 1
    finally:
        service.stop()
    return 0


def _tour(console: Console, service: Service) -> None:
    started = time.monotonic()
    rows = load_rows(_HELDOUT)
    _heading(console, 1, "the base model")
    model = base_model.convert(cache_folder() / "smollm2-135m-instruct")
    console.print(f"  {base_model.NAME} in {model}", highlight=False, soft_wrap=True)

    _heading(console, 2, "a Tunesmith server")
    settings = f"[model_aliases]\n{json.dumps(base_model.NAME)} = {json.dumps(str(model))}\n"
    (service.home / "tunesmith.toml").write_text(settings, encoding="utf-8")
    service.start()
    console.print(f"  {service.url} with its home in {service.home}", highlight=False, soft_wrap=True)

    _heading(console, 3, "a LoRA job through the openai client")
    training_started = time.monotonic()
    job = _train(console, service.client)
    training = time.monotonic() - training_started
    adapter = _adapter_folder(service, job)
    service.stop()
    console.print(
        f"  {job.fine_tuned_model} after {training:.0f} s; the server is stopped", highlight=False, soft_wrap=True
    )

    _heading(console, 4, "base and tuned model, side by side")
    comparing_started = time.monotonic()
    comparison = compare(console, model, adapter, rows)
    comparing = time.monotonic() - comparing_started

    _heading(console, 5, "the adapter is yours")
    console.print(_usage(model, adapter, rows[0]), markup=False, highlight=False, soft_wrap=True)
    total = time.monotonic() - started
    console.print(f"Training {training:.0f} s, comparison {comparing:.0f} s, in all {total:.0f} s.", highlight=False)
    shortfall = comparison.shortfall()
    if shortfall:
        raise DemoError(f"{shortfall}.")


def _train(console: Console, client: openai.OpenAI) -> FineTuningJob:
    train = client.files.create(file=_TRAIN, purpose="fine-tune")
    validation = client.files.create(file=_HELDOUT, purpose="fine-tune")
    hyperparameters: Any = _HYPERPARAMETERS  # the client's types know OpenAI's three only; it sends them all
    job = client.fine_tuning.jobs.create(
        model=base_model.NAME,
        training_file=train.id,
        validation_file=validation.id,
        suffix="triage",
        hyperparameters=hyperparameters,
    )
    console.print(f"  {job.id}: {json.dumps(_HYPERPARAMETERS)}", highlight=False, soft_wrap=True)
    with display_for(console) as display:
        job = follow(client, job.id, display)
    if job.status != "succeeded":
        reason = job.error.message if job.error else "no reason is given"
        raise DemoError(f"the job ended as {job.status}: {reason}")
    return job


def _adapter_folder(service: Service, job: FineTuningJob) -> Path:
    for model in service.command("models", "list"):
        if model["id"] == job.fine_tuned_model:
            return Path(model["path"])
    raise DemoError(f"`tunesmith models list` does not know {job.fine_tuned_model}.")


def _usage(model: Path, adapter: Path, row: Row) -> str:
    return f"""\
  {adapter}

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = "{model}"
    adapter = "{adapter}"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    messages = [
        {{"role": "system", "content": "{row.system}"}},
        {{"role": "user", "content": "My parcel is a week late. Where is it?"}},
    ]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    print(tokenizer.decode(model.generate(**inputs, max_new_tokens=60)[0, inputs["input_ids"].shape[1] :]))
"""


def _heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold]{number}/5 {text}[/]", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
