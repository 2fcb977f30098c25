"""Training rows for tests."""

import json


def chat_rows(count: int = 12) -> bytes:
    """Chat rows that a small model can learn."""
    return b"".join(json.dumps({"messages": _turns(number)}).encode() + b"\n" for number in range(count))


def _turns(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"What comes after {number}?"},
        {"role": "assistant", "content": f"After {number} comes {number + 1}."},
    ]
