"""Adapters that come from outside: what they must consist of, and how they are taken out of an archive."""

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from tunesmith.data.archives import opened_archive
from tunesmith.spec.errors import AdapterError, DatasetError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

MAX_ADAPTER_BYTES = 500 * 1024**2
_MAX_CONFIG_BYTES = 1024**2
_MAX_HEADER_BYTES = 100 * 1024**2
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def unpack_adapter(archive: Path, folder: Path) -> None:
    """Take an adapter's two files out of a ZIP archive, where they may lie in one folder; others are left in it.

    Raises:
        AdapterError: the archive is damaged, leads out of itself, holds links, unpacks to too much or needs pickle; or
            it has no such files.
    """
    try:
        with opened_archive(archive):
            pass  # it refuses what an archive may not hold
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            chosen = [_member(members, name) for name in (CONFIG, WEIGHTS)]
            if chosen[0].file_size > _MAX_CONFIG_BYTES or chosen[1].file_size > MAX_ADAPTER_BYTES:
                raise AdapterError(f"The archive unpacks to more than {MAX_ADAPTER_BYTES:,} bytes.")
            for member, name in zip(chosen, (CONFIG, WEIGHTS), strict=True):
                with file.open(member) as packed, (folder / name).open("wb") as target:
                    shutil.copyfileobj(packed, target, 1024**2)
    except DatasetError as error:
        raise AdapterError(error.message, hint=error.hint) from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise AdapterError(f"The ZIP archive is damaged: {error}.", hint="Pack it anew.") from error


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy an adapter's two files.

    Raises:
        AdapterError: the source is no adapter.
    """
    for name in (CONFIG, WEIGHTS):
        if not (source / name).is_file():
            raise AdapterError(f"There is no {name}: only LoRA adapters can be brought in.")
        shutil.copyfile(source / name, folder / name)


def check_adapter(folder: Path) -> None:
    """Refuse what is not a LoRA adapter in PEFT's format for a named base model.

    Raises:
        AdapterError: the configuration or the weights are not those of one.
    """
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{CONFIG} is not JSON: {error}.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(f"{CONFIG} does not describe a LoRA adapter: its peft_type is not 'LORA'.")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise AdapterError(f"{CONFIG} names no base model in base_model_name_or_path.")
    names = _tensor_names(folder / WEIGHTS)
    if not any("lora_A" in name for name in names) or not any("lora_B" in name for name in names):
        raise AdapterError(f"{WEIGHTS} holds no LoRA matrices.")


def _member(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    found = [member for member in members if PurePosixPath(member.filename).name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise AdapterError(f"The archive holds {name} {len(found)} times.", hint="Pack one adapter.")
    pickles = [member.filename for member in members if member.filename.endswith(_PICKLES)]
    only = f", only {pickles[0]!r}, whose loading may run any code" if pickles else ""
    raise AdapterError(
        f"The archive holds no {name}{only}.",
        hint=f"Pack {CONFIG} and {WEIGHTS}, as PEFT's save_pretrained writes them.",
    )


def _tensor_names(path: Path) -> list[str]:
    """Names from the header of a safetensors file, which says how long the file must be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
            raise AdapterError(f"{path.name} is not in safetensors format.")
        header = file.read(length)
    try:
        tensors: dict[str, Any] = json.loads(header)
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise AdapterError(f"{path.name} has a damaged header.") from error
    if end != size - 8 - length:
        raise AdapterError(f"{path.name} is cut off or has more bytes than its header tells.")
    return list(tensors)
