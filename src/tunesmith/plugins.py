"""Plug-ins: the folder is the registry, the file name is the key."""

import importlib
import pkgutil
from functools import cache
from types import ModuleType


@cache
def load_plugins(package: str) -> dict[str, ModuleType]:
    """Import every module of a plug-in package, by name.

    Raises:
        ImportError: a member does not import. Nothing is skipped: a broken built-in stops the process.
    """
    parent = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(parent.__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}
