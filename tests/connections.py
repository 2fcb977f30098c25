"""What integrations are made with, for tests without a server."""

import threading
import time
from pathlib import Path
from typing import Any

from tunesmith.access.secrets import Secrets
from tunesmith.integrations import Connections, Results
from tunesmith.sources import Limits
from tunesmith.store.database import Database

LOOPBACK = Limits(max_bytes=1_000_000, idle_seconds=5, allowed_networks=("127.0.0.0/8", "::1/128"))


def connections(database: Database, secrets: Secrets, folder: Path, **others: Any) -> Connections:
    """Those that reach the loopback; jobs leave neither a receipt nor files. Keyword arguments replace them."""
    usual: dict[str, Any] = {
        "limits": LOOPBACK,
        "render": lambda *_: None,
        "results": Results(receipt=lambda _: None, files=lambda _: [], picture=lambda _: None),
        "hub_url": None,
        "clock": time.time,
        "ending": threading.Event(),
    }
    return Connections(database=database, secrets=secrets, folder=folder, **{**usual, **others})
