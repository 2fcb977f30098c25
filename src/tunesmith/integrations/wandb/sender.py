"""The main of a sender: takes orders from its standard input and gives them to the library of Weights & Biases.

The library makes its connections itself; they go through a proxy in this process, which lets them lead to allowed
addresses only.
"""

import os
import sys
import threading
from contextlib import suppress
from html import escape
from queue import SimpleQueue
from typing import Any

import psutil
from pydantic import ValidationError

from tunesmith.integrations.wandb.orders import (
    ORDER,
    STEP,
    Began,
    Begin,
    Failed,
    Finish,
    Finished,
    Mark,
    Reached,
    Row,
    Sample,
)
from tunesmith.integrations.wandb.proxy import GuardedProxy
from tunesmith.sources._guard import Guard, resolve_host

# The library gives rows up after some twenty tries, and says nothing; and it waits up to a minute for the next one.
_PATIENCE = {
    f"x_{part}_retry_{name}": value
    for part in ("graphql", "file_stream", "file_transfer")
    for name, value in (("max", 1_000_000), ("wait_max_seconds", 15))
}


def main() -> None:
    """Follow orders until there are no more."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the library prints where the server listens

    def reply(said: Began | Reached | Finished | Failed) -> None:
        replies.write(said.model_dump_json() + "\n")
        replies.flush()

    heard: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(heard,), daemon=True).start()
    try:
        _follow(heard, reply)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server has to hear of it
        with suppress(OSError):  # unless it has gone meanwhile
            reply(Failed(reason=f"The library of W&B fails with {type(error).__name__}."))
    _leave()


def _listen(heard: SimpleQueue[str]) -> None:
    """Take orders also while the library waits for W&B: a server that is gone must not leave a process behind."""
    for line in sys.stdin:
        heard.put(line)
    _leave()


def _leave() -> None:
    """End with all children. The library's own process would go on, and tell W&B that the run has failed, perhaps after
    another sender has told its true end."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(0)  # the library would wait for what it has not sent


def _follow(heard: SimpleQueue[str], reply: Any) -> None:
    run: Any = None
    begin: Begin | None = None
    next_number = 0
    while True:
        match _order(heard.get()):
            case Begin() as begin:
                run = _begun(begin)
                next_number = run.starting_step
                reply(Began(url=run.url if begin.key is not None else None))
            case (Row() | Sample()) as row if run is not None and row.number >= next_number:
                values = row.values if isinstance(row, Row) else {STEP: row.step, row.key: _shown(row)}
                run.log({**values, "_timestamp": row.at}, step=row.number, commit=True)
                next_number = row.number + 1
            case Mark(number=number):
                reply(Reached(number=number))
            case Finish() as finish if run is not None and begin is not None:
                run.summary["state"] = finish.state
                run.finish(exit_code=finish.exit_code)
                missing = next_number - _rows_there(begin, run) if begin.key is not None else 0
                reply(Finished() if missing <= 0 else Failed(reason=f"W&B has refused {missing} rows of the history."))
                return


def _rows_there(begin: Begin, run: Any) -> int:
    """How many rows the service has. The library says nothing of those that it refuses, say for want of room."""
    import wandb

    service = wandb.Api(overrides={"base_url": begin.base_url}, api_key=begin.key)
    count: int = service.run(f"{run.entity}/{run.project}/{run.id}").history_line_count
    return count


def _shown(sample: Sample) -> Any:
    import wandb

    if sample.picture is not None:
        return wandb.Image(sample.picture, caption=sample.prompt)
    page = f"<p><b>{escape(sample.prompt)}</b></p><p style='white-space: pre-wrap'>{escape(sample.text)}</p>"
    return wandb.Html(page, inject=False, data_is_not_path=True)


def _order(line: str) -> Begin | Row | Sample | Mark | Finish | None:
    try:
        return ORDER.validate_json(line)
    except ValidationError:
        return None  # cut off: the server is gone


def _begun(begin: Begin) -> Any:
    """The run, made or gone on with."""
    proxies = {}
    if begin.key is not None:
        proxy = GuardedProxy(Guard(begin.allowed_networks, resolve_host))
        proxy.start()
        proxies = {"http_proxy": proxy.url, "https_proxy": proxy.url}
        # Read by the library's own children.
        os.environ.update({**proxies, **{name.upper(): url for name, url in proxies.items()}})
    import wandb

    address = {"base_url": begin.base_url} if begin.base_url is not None else {}
    run = wandb.init(
        id=begin.run,
        project=begin.project,
        entity=begin.entity,
        name=begin.name,
        tags=begin.tags,
        config=begin.config,
        dir=begin.folder,
        mode="offline" if begin.key is None else "online",
        resume=None if begin.key is None else "allow",
        settings=wandb.Settings(
            api_key=begin.key,
            **address,
            **proxies,
            **_PATIENCE,
            # Nothing of this machine, its code or its console belongs to a run.
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            host="tunesmith",
            silent=True,
        ),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return run


if __name__ == "__main__":
    main()
