"""What the proxy lets through for a library that makes its connections itself."""

import socket
from ipaddress import ip_network

import httpx2
import pytest

from tunesmith.integrations.wandb.proxy import GuardedProxy
from tunesmith.sources._guard import Guard
from web_server import WebServer, reply

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def web():
    web = WebServer()
    for host in ("127.0.0.1", "rebound.example"):  # a proxy's requests hold whole URLs
        web.answers[f"http://{host}:{web.port}/"] = lambda handler: reply(handler, 200, b"reached")
    yield web
    web.stop()


def through(allowed, resolve=lambda _host, _port: ["127.0.0.1"]):
    proxy = GuardedProxy(Guard(allowed, resolve))
    proxy.start()
    return httpx2.Client(proxy=proxy.url)


def test_an_allowed_address_is_reached(web):
    assert through(LOOPBACK).get(web.url).text == "reached"


def test_an_address_that_is_not_allowed_is_refused_for_good(web):
    assert through(()).get(web.url).status_code == 403
    assert web.requests == []


def test_a_name_is_asked_for_once_so_it_cannot_lead_elsewhere_after_the_check(web):
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    client = through(LOOPBACK, lambda _host, _port: answers.pop(0))
    assert client.get(f"http://rebound.example:{web.port}/").text == "reached"
    assert len(answers) == 1


def test_a_service_that_is_away_is_one_to_be_asked_again():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert through(LOOPBACK).get(f"http://127.0.0.1:{port}/").status_code == 502


@pytest.mark.parametrize("port", [22, 25])
def test_a_tunnel_to_a_port_of_another_service_is_refused(port):
    with pytest.raises(httpx2.ProxyError, match="403"):
        through(LOOPBACK).get(f"https://127.0.0.1:{port}/")
