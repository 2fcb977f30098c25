"""Recipes: a job in another tool's words, as a file. One module a tool; its name, with dashes, is the key.

A module offers `FILENAME` and `write(spec: JobSpec) -> str`: pure, with every value that the tool can hold, and a
comment for each that it cannot. A job that a tool cannot train at all raises UnsupportedError.
"""

from tunesmith.plugins import load_plugins
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import JobSpec


class Recipe(Frozen):
    """A file for another tool."""

    filename: str
    text: str


def tools() -> tuple[str, ...]:
    """The keys of all tools."""
    return tuple(name.replace("_", "-") for name in load_plugins("tunesmith.recipes"))


def recipe(spec: JobSpec, tool: str) -> Recipe:
    """A job as a file for one of `tools()`.

    Raises:
        UnsupportedError: the tool cannot train such a job.
    """
    module = load_plugins("tunesmith.recipes")[tool.replace("-", "_")]
    return Recipe(filename=module.FILENAME, text=module.write(spec))
