"""A random BLIP of a few thousand weights, whose captions are words without sense."""

import torch
from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "photo", "of", "red", "blue", "chair", "table"]


def write_tiny_captioner(folder):
    """Write the model with its processor, as `from_pretrained` reads them."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(_WORDS))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), additional_special_tokens=["[DEC]"])
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 5, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3}
    sizes = {"vocab_size": len(_WORDS), "max_position_embeddings": 160, "projection_dim": 16, "encoder_hidden_size": 16}
    text = {**small, **sizes, **ids}
    torch.manual_seed(7)
    config = BlipConfig(
        text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16
    )
    model = BlipForConditionalGeneration(config)
    with torch.no_grad():  # the random start is so small that every picture would look alike
        for weights in model.parameters():
            weights.mul_(20)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
