"""Files of pictures on their way, without a server behind them."""

import threading

import pytest

from tunesmith.jobs.pictures.collecting import Collector, check_sources
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import ImagesSpec
from tunesmith.storage import Storage


class EndedError(Exception):
    """Nobody waits for the pictures any more."""


class SilentServer:
    """Stands for the fetcher: what it fetches does not come before it is told to answer."""

    def __init__(self):
        self.asked, self.answers, self.waited = (threading.Event() for _ in range(3))

    def fetch_now(self, org, source, target, progress):
        self.asked.set()
        self.answers.wait(30)
        self.waited.set()
        progress(1, None)


class EndsOnceAsked:
    """A report of a job that is cancelled when the first file is on its way."""

    def __init__(self, server):
        self._server = server

    def stage(self, stage, done, total):
        if self._server.asked.is_set():
            raise EndedError


def images_of(*sources):
    return ImagesSpec(sources=sources, trigger_word="sks", captioning="trigger_only", resolution=(64,))


def test_a_preparation_that_is_ended_does_not_wait_for_a_silent_server(tmp_path):
    server = SilentServer()
    collector = Collector(None, server, Storage(tmp_path / "files"))
    sources = (f"https://pictures.example/{number}.png" for number in range(20))
    try:
        with pytest.raises(EndedError):
            collector.collect("local", images_of(*sources), None, tmp_path / "fetched", EndsOnceAsked(server))
        assert not server.waited.is_set()
    finally:
        server.answers.set()


@pytest.mark.parametrize("address", ["https://me:canary@shop.example/a.png", "s3://canary@shop/a.png"])
def test_an_address_with_a_password_is_refused_without_being_repeated(address):
    with pytest.raises(InvalidRequestError) as refused:
        check_sources(images_of("https://shop.example/a@2x.png", address))
    assert refused.value.param == "data.images.sources.1"
    assert "canary" not in refused.value.info.sentence()
