"""One run of TRL's SFTTrainer on rows with pictures: activations are kept, as memory allows it."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

from case import ALPHA, RANK, RATE, SEED, Order, read_order, write_result
from vision_rows import pictures_of


def main() -> None:
    """Train."""
    import torch
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tunesmith.training.adapters import new_adapter

    order, ends = read_order(), []
    case = order.case

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

    core, spec = _model(order)
    processor = _processor(Path(order.model))
    trainer = SFTTrainer(
        model=new_adapter(core, spec.adapter, SEED, outside=_outside(core, spec)),
        args=SFTConfig(
            output_dir=str(Path(order.work) / "out"),
            use_cpu=not torch.cuda.is_available(),
            bf16=case.dtype == "bfloat16",
            per_device_train_batch_size=case.batch,
            max_length=None,
            assistant_only_loss=True,
            gradient_checkpointing=False,
            max_steps=order.steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            seed=SEED,
            data_seed=SEED,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=_rows(Path(order.rows)),
        processing_class=processor,
        callbacks=[Clock()],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    totals = [0, *(entry["num_tokens"] for entry in logs)]
    tokens = [after - before for before, after in itertools.pairwise(totals)]
    write_result(order, losses=[entry["loss"] for entry in logs], ends=ends, tokens=tokens)


def _model(order: Order) -> tuple[Any, Any]:
    """The model, and the spec of our engine, whose adapter is put into it: language alone."""
    import torch
    from ours import attempt_of
    from transformers import AutoModelForImageTextToText

    dtype = getattr(torch, order.case.dtype)
    spec = attempt_of(order).spec
    assert spec.adapter is not None
    assert (spec.adapter.rank, spec.adapter.alpha) == (RANK, ALPHA)
    return AutoModelForImageTextToText.from_pretrained(order.model, dtype=dtype), spec


def _outside(core: Any, spec: Any) -> str | None:
    from tunesmith.training.vision_parts import beyond_parts

    return beyond_parts(core, spec)


def _processor(folder: Path) -> Any:
    """The library's composite processor; without its part for videos, which needs torchvision."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, Qwen2_5_VLProcessor

    class WithoutVideos(Qwen2_5_VLProcessor):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

        def __init__(self, pictures: Any, tokenizer: Any) -> None:
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            self.image_processor, self.tokenizer = pictures, tokenizer
            self.chat_template = tokenizer.chat_template

    if json.loads((folder / "config.json").read_text())["model_type"] != "qwen2_5_vl":
        return AutoProcessor.from_pretrained(folder)
    return WithoutVideos(AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def _rows(path: Path) -> Any:
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageColumn

    from tunesmith.data.row_pictures import RowPictures

    shown = RowPictures(pictures_of(path))
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        asked, answered = json.loads(line)["messages"]
        [text] = [part["text"] for part in asked["content"] if part["type"] == "text"]
        # As files: a picture that was opened is written as a JPEG anew, with other pixels.
        pictures = [{"bytes": shown.read(each), "path": None} for each in shown.shown_by(number)]
        rows.append({"messages": [{"role": "user", "content": text}, answered], "images": pictures})
    turns = List({"role": Value("string"), "content": Value("string")})
    return Dataset.from_list(rows, features=Features({"messages": turns, "images": List(ImageColumn())}))


if __name__ == "__main__":
    main()
