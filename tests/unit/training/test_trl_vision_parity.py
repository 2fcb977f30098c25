"""TRL is the oracle for rows with pictures, too: the same rows, seed and settings give the same losses.

Its mask comes from `{% generation %}` in the chat template, ours from comparing renders.
"""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attempts import losses, run
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.adapters import new_adapter
from tunesmith.training.model import load_vision_model
from tunesmith.training.vision_parts import beyond_parts, freeze_beyond_parts
from vision import COLOURS, png, shows, vision_attempt

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_kept"), pytest.mark.filterwarnings("ignore")]

TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>' -}}
{%- elif message['role'] == 'assistant' -%}{%- generation -%}{{- part['text'] + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}{{- part['text'] + '<|im_end|>' -}}{%- endif -%}
{%- endfor -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
PARTS = {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}}


@pytest.fixture
def model(tiny_vision_model: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_vision_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.mark.parametrize(
    "changes", [{}, {"adapter": None}, {"adapter": None, "method": PARTS}], ids=["lora", "full", "full-all-parts"]
)
def test_losses_on_pictures_in_float32_equal_those_of_trl(model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = [shows(*(COLOURS[(n + k) % 6] for k in range(1 + n % 2))) for n in range(24)]
    order = vision_attempt(model, tmp_path, rows, max_steps=20, epochs=50.0, **changes)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events) == pytest.approx(_trl_losses(order, rows, tmp_path / "trl"), abs=1e-4)


def _trl_losses(order: AttemptSpec, rows: list[dict[str, Any]], folder: Path) -> list[float]:
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from datasets import Image as ImageColumn
    from transformers import AutoProcessor
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    spec, inputs = order.spec, order.inputs
    features = Features(
        {
            "messages": List({"role": Value("string"), "content": Value("string")}),
            "images": List(ImageColumn()),
        }
    )
    data = Dataset.from_list([_for_trl(row) for row in rows], features=features)
    model = load_vision_model(inputs.model, torch.float32, torch.device("cpu"))
    if spec.adapter is not None:
        seed = spec.optimization.seed
        model = new_adapter(model, spec.adapter, seed, outside=beyond_parts(model, spec))
    else:
        freeze_beyond_parts(model, spec)
    config = SFTConfig(
        output_dir=str(folder),
        max_length=None,
        assistant_only_loss=True,
        per_device_train_batch_size=spec.optimization.batch_size,
        learning_rate=spec.optimization.learning_rate,
        lr_scheduler_type=spec.optimization.schedule,
        warmup_steps=spec.optimization.warmup_ratio,
        weight_decay=spec.optimization.weight_decay,
        max_grad_norm=1.0,
        max_steps=spec.optimization.max_steps or -1,
        seed=spec.optimization.seed,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=data,
        processing_class=AutoProcessor.from_pretrained(inputs.model),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _for_trl(row: dict[str, Any]) -> dict[str, Any]:
    asked, answered = row["messages"]
    colours = [part["image"] for part in asked["content"] if part["type"] == "image"]
    question = "".join(part["text"] for part in asked["content"] if part["type"] == "text")
    return {
        "messages": [{"role": "user", "content": question}, answered],
        "images": [Image.open(io.BytesIO(png(colour))) for colour in colours],
    }
