"""A tiny vision-language model learns to say what small pictures show. All of it is trained, what sees too.

python name_pictures.py emoji-datasource-twitter-16.0.0.tgz

A Tunesmith server trains it on an archive of pictures; plain transformers ask it about others that were held out,
before and after. Takes a few minutes on a processor.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_EXAMPLES = Path(__file__).resolve().parents[1]
sys.path += [str(_EXAMPLES / "support_triage"), str(_EXAMPLES / "native")]

from pictures import QUESTION, Picture, load_pictures, packed  # noqa: E402
from service import Service  # noqa: E402

_SPEC = {
    "model": {"base": "tiny-vision", "modality": "vision_language", "dtype": "float32"},
    "method": {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}},
    "optimization": {"epochs": 20, "learning_rate": 3e-3, "batch_size": 16, "schedule": "cosine", "warmup_ratio": 0.1},
    "adapter": None,
}


def main(package: Path) -> int:
    """Train and measure. Returns 0 if the tuned model names more than half of the held-out pictures rightly."""
    shown, held_out = load_pictures(package)
    kinds = Counter(each.kind for each in held_out)
    print(f"{len(shown)} pictures to train on, {len(held_out)} held out: {dict(kinds)}")
    with tempfile.TemporaryDirectory() as folder:
        model, home = Path(folder) / "model", Path(folder) / "home"
        subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_vision_model", str(model)], check=True)
        home.mkdir()
        (home / "tunesmith.toml").write_text(f'[model_aliases]\ntiny-vision = "{model}"\n')
        before = accuracy(model, held_out)
        start = time.monotonic()
        tuned = train(Service(home), packed(shown))
        print(f"Trained in {time.monotonic() - start:.0f} s.")
        after = accuracy(tuned, held_out)
        usual = max(kinds.values()) / len(held_out)
        print(f"Right before: {before:.1%}. Right after: {after:.1%}. The most frequent kind alone: {usual:.1%}.")
    return 0 if after > max(0.5, usual) else 1


def train(service: Service, archive: bytes) -> Path:
    """The folder of the tuned model."""
    service.start()
    try:
        os.environ["TUNESMITH_URL"] = service.url
        from train import call, follow, upload

        rows = service.home / "pictures.zip"
        rows.write_bytes(archive)
        spec = {**_SPEC, "data": {"train": {"file": upload(str(rows))}, "max_length": 128}}
        job = json.load(call("/jobs", json.dumps({"spec": spec, "name": "pictures"}).encode()))["id"]
        for kind, data in follow(job):
            if kind not in ("end", "metrics"):
                print(data["message"], flush=True)
        return service.home / "models" / job
    finally:
        service.stop()


def accuracy(folder: Path, pictures: Sequence[Picture]) -> float:
    """Share of pictures that a model names rightly, with plain transformers."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    right = 0
    with torch.inference_mode():
        for each in pictures:
            inputs = processor(
                images=[[_on_white(Image.open(io.BytesIO(each.content)))]], text=[prompt], return_tensors="pt"
            )
            written = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            right += processor.decode(written, skip_special_tokens=True).strip() == each.kind
    return right / len(pictures)


def _on_white(picture: Any) -> Any:
    """As the server shows transparent pictures to the model."""
    from PIL import Image

    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
