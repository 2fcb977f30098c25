"""A job's spec as trackers show it."""

from typing import Any

from tunesmith.store.jobs import Job


def shown_spec(job: Job) -> dict[str, Any]:
    """The spec as JSON, without ids of credentials and without the queries of addresses, where signatures may stand."""
    shown: dict[str, Any] = _without_secrets(job.spec.model_dump(mode="json"))
    return shown


def parameters(job: Job) -> dict[str, str]:
    """The spec as one level of texts, such as `optimization.learning_rate`; what is not set is left out."""
    return dict(_leaves("", shown_spec(job)))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(part) for name, part in value.items() if name != "secret"}
    if isinstance(value, list):
        return [_without_secrets(part) for part in value]
    if isinstance(value, str) and value.lower().startswith(("http://", "https://")):
        return value.partition("?")[0]
    return value


def _leaves(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for name, part in value.items() for pair in _leaves(f"{path}.{name}" if path else name, part)]
    if value is None or value == []:
        return []
    if isinstance(value, list):
        return [(path, ", ".join(str(part) for part in value))]
    return [(path, str(value))]
