"""Which layers of a transformer get an adapter."""

from collections.abc import Mapping

from tunesmith.spec.errors import AdapterError
from tunesmith.spec.job import AdapterSpec


def targeted(matrices: Mapping[str, tuple[int, int]], adapter: AdapterSpec) -> list[str]:
    """Full names of the layers that get an adapter, of those whose names and shapes [out, in] are given.

    Raises:
        AdapterError: a target names no layer of a block, or the rank exceeds what a layer can have.
    """
    names = list(matrices)
    if adapter.targets != ("all-linear",):
        names = [name for name in matrices if any(_is_named(name, target) for target in adapter.targets)]
        _require_known(matrices, adapter)
    smallest = min(names, key=lambda name: min(matrices[name]))
    if adapter.rank > min(matrices[smallest]):
        out_features, in_features = matrices[smallest]
        raise AdapterError(
            f"The rank {adapter.rank} exceeds that of the layer {smallest!r} itself, whose weights are "
            f"{out_features}x{in_features}.",
            param="adapter.rank",
            hint=f"Ask for at most {min(matrices[smallest])}, or leave the layer out of the targets.",
        )
    return names


def _require_known(matrices: Mapping[str, tuple[int, int]], adapter: AdapterSpec) -> None:
    for target in adapter.targets:
        if not any(_is_named(name, target) for name in matrices):
            known = ", ".join(sorted({_short(name) for name in matrices}))
            raise AdapterError(
                f"No layer of the transformer's blocks is called {target!r}.",
                param="adapter.targets",
                hint=f"Use `all-linear`, or some of: {known}.",
            )


def _is_named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _short(name: str) -> str:
    """The name within a block: `attn.to_q` for `transformer_blocks.3.attn.to_q`."""
    return name.split(".", 2)[2]
