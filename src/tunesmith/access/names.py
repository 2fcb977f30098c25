"""The names that people give to organisations, projects, keys and secrets."""

from tunesmith.spec.errors import InvalidRequestError

_MAX_NAME = 128


def require_name(name: str) -> None:
    """See that something can be called so.

    Raises:
        InvalidRequestError: the name is empty, has more than 128 letters, or some that cannot be printed.
    """
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidRequestError(
            f"Name {name[:_MAX_NAME]!r} is not allowed.", param="name", hint=f"Use 1 to {_MAX_NAME} printable letters."
        )
