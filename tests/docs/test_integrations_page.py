"""The receiver of the page, run as it stands there, and the page's figures."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from running_server import wait_for
from tunesmith.integrations.webhook import DELAYS, catalogue, signing
from tunesmith.integrations.webhook.sending import Sender, Target
from tunesmith.sources import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
LIMITS = Limits(max_bytes=1000, allowed_networks=("127.0.0.0/8",))


def test_the_receiver_of_the_page_takes_signed_messages_once_and_no_others(tmp_path):
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "receiver.py").write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = signing.new_secret()
    settings = {**os.environ, "OPENAI_WEBHOOK_SECRET": secret, "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "receiver.py"], cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: _listens(port), seconds=60)
        url, sender = f"http://127.0.0.1:{port}/", Sender(LIMITS)
        body = '{"id": "evt_1", "created_at": 1, "type": "fine_tuning.job.failed", "data": {"id": "ftjob-1"}}'
        at = time.time()
        answers = [
            sender.send(Target(url, (each,)), id="msg", body=body, at=at).status
            for each in (signing.new_secret(), secret, secret)
        ]
        assert answers == [400, 204, 204]
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=30)
    assert printed == "fine_tuning.job.failed ftjob-1\n"


def test_the_page_names_every_event_and_every_delay():
    for name in (*catalogue.EVENTS, catalogue.TEST):
        assert f"| `{name}` |" in PAGE
    units = {"s": 1, "min": 60, "h": 3600}
    [told] = re.findall(r"others (.*?) after", PAGE, re.DOTALL)
    assert [int(number) * units[unit] for number, unit in re.findall(r"(\d+)\s(s|min|h)\b", told)] == list(DELAYS)


def _listens(port):
    with httpx2.Client(trust_env=False) as client:
        try:
            return client.get(f"http://127.0.0.1:{port}/").status_code
        except httpx2.TransportError:
            return None
