"""A real S3 server for tests: rclone on a free port of the loopback, ended by its own process id."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


class S3Server:
    """`rclone serve s3` on a folder whose sub-folders are buckets. It checks signatures; `with` ends it."""

    ACCESS_KEY_ID = "TESTACCESSKEY"
    SECRET_ACCESS_KEY = "a-secret-of-the-tests"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "rclone"),
                "serve",
                "s3",
                "--addr=127.0.0.1:0",
                f"--auth-key={self.ACCESS_KEY_ID},{self.SECRET_ACCESS_KEY}",
                "--config=",
                "--dir-cache-time=0",  # a changed file is seen at once
                "--log-level=NOTICE",
                str(folder),
            ],
            env={**os.environ, "RCLONE_CONFIG": ""},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            found = _ADDRESS.search(line)
            if found:
                self.url = found[0]
                break
        else:
            raise AssertionError(f"rclone did not start: {''.join(said)}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    @property
    def credentials(self) -> dict[str, str]:
        """Fields of a secret that this server accepts."""
        return {
            "access_key_id": self.ACCESS_KEY_ID,
            "secret_access_key": self.SECRET_ACCESS_KEY,
            "endpoint": self.url,
        }

    def put(self, bucket: str, key: str, content: bytes) -> str:
        """Place an object; returns its address."""
        path = self.folder / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"s3://{bucket}/{key}"

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(timeout=30)

    def __enter__(self) -> "S3Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
