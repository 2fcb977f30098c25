"""A small parent process that has imported the training libraries and forks each worker: a warm start.

It never computes, starts threads or touches a GPU, because none of that survives a fork. It talks to the server over an
inherited socket, one JSON object a line: `{"run": DIRECTORY, "environment": {...}}` in, `{"pid": N}` out. When the
server goes away it ends; the workers go on.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tunesmith.rundir import RunDirectory

# Imported by every job of the present methods; together they cost seconds.
_LIBRARIES = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.generation.configuration_utils",
    "peft",
    "safetensors.torch",
)


def main(descriptor: int) -> None:
    """Import, report readiness, then fork on request until the server hangs up."""
    server = socket.socket(fileno=descriptor)
    _import_libraries()
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and thereby copying, the parent's pages in every child
    wakeup = _wake_on_child_exit()
    running: dict[int, RunDirectory] = {}
    _send(server, {"ready": os.getpid()})
    requests = b""
    while True:
        readable, _, _ = select.select([server, wakeup], [], [])
        if wakeup in readable:
            wakeup.recv(4096)
            _reap(running)
        if server in readable:
            received = server.recv(65536)
            if not received:
                return
            requests += received
            while b"\n" in requests:
                line, requests = requests.split(b"\n", 1)
                request = json.loads(line)
                run = RunDirectory(Path(request["run"]))
                pid = _fork_worker(run, request["environment"], close=(server, wakeup))
                running[pid] = run
                _send(server, {"pid": pid})


def _import_libraries() -> None:
    from tunesmith.training.quantization import hide_bitsandbytes

    hide_bitsandbytes()
    for name in _LIBRARIES:
        importlib.import_module(name)
    for package in ("tunesmith.training", "tunesmith.methods"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    importlib.import_module("tunesmith.worker")


def _wake_on_child_exit() -> socket.socket:
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def _fork_worker(run: RunDirectory, environment: dict[str, str], close: tuple[socket.socket, ...]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for connection in close:
            connection.close()
        _redirect_output(run.log)
        os.environ.update(environment)
        from tunesmith.worker import main as train

        code = train(run.path)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect_output(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)


def _reap(running: dict[int, RunDirectory]) -> None:
    for pid in list(running):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            run = running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            # The folder of a check may be gone already, and a full disk must not end this process.
            with suppress(OSError):
                run.write_exit(code=code if code >= 0 else None, signal=-code if code < 0 else None)


def _send(server: socket.socket, message: dict[str, int]) -> None:
    server.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
