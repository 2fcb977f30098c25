"""YAML of flat settings. Every JSON value is YAML as well."""

import json
from collections.abc import Mapping
from typing import Any


def settings(values: Mapping[str, Any]) -> str:
    """A line for each setting; those that are none are left out."""
    return "".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items() if value is not None
    )
