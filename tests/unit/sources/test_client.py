import itertools
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tunesmith.sources._client import GuardedClient, read_body
from tunesmith.spec.errors import AddressRefusedError, TooLargeError
from web_server import reply


def get(client, url, headers=None, **more):
    return client.request("GET", url, headers=headers or {}, seconds=20, max_bytes=1000, **more)


def redirect(target, status=302):
    return lambda handler: reply(handler, status, Location=target)


@pytest.fixture
def client(limits):
    return GuardedClient(limits)


@pytest.fixture
def names():
    """Addresses of names that no name server knows."""
    return {}


@pytest.fixture
def named_client(limits, names):
    return GuardedClient(limits, lambda host, port: names[host])


def test_the_loopback_is_refused_unless_its_network_is_allowed(web, client, limits):
    web.answers["/"] = lambda handler: reply(handler, body=b"inside")
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(AddressRefusedError):
            get(GuardedClient(limits.model_copy(update={"allowed_networks": ()})), f"http://{host}:{web.port}/")
    assert web.requests == []
    assert get(client, f"{web.url}/").content == b"inside"


def test_a_name_that_changes_its_address_between_check_and_connection_gains_nothing(web, limits):
    web.answers["/"] = lambda handler: reply(handler, body=b"checked")
    asked = []

    def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    rebound = GuardedClient(limits, resolve)
    assert get(rebound, f"http://rebinding.example:{web.port}/").content == b"checked"
    assert asked == ["rebinding.example"]
    assert web.requests[0][1]["host"] == f"rebinding.example:{web.port}"


def test_the_next_address_is_tried_when_the_first_does_not_answer(web, named_client, names):
    web.answers["/"] = lambda handler: reply(handler, body=b"second")
    names["files.example"] = ["127.0.0.2", "127.0.0.1"]
    assert get(named_client, f"http://files.example:{web.port}/").content == b"second"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_an_inner_address_is_refused(web, client, status):
    for target in (
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[fd00::1]:8080/",
        "//192.168.0.1/",
        "http://2130706433/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1:22/",
    ):
        web.answers["/"] = redirect(target, status)
        with pytest.raises(AddressRefusedError):
            get(client, f"{web.url}/")


def test_redirects_are_followed_five_times_and_loops_end(web, client):
    for number in range(6):
        web.answers[f"/{number}"] = redirect(f"/{number + 1}")
    web.answers["/6"] = lambda handler: reply(handler, body=b"there")
    assert get(client, f"{web.url}/1").content == b"there"
    with pytest.raises(AddressRefusedError, match="more than 5 times"):
        get(client, f"{web.url}/0")
    web.answers["/loop"] = redirect("/loop")
    with pytest.raises(AddressRefusedError, match="more than 5 times"):
        get(client, f"{web.url}/loop")


def test_redirects_are_an_answer_where_they_are_not_followed(web, client):
    web.answers["/"] = redirect("/on")
    assert get(client, f"{web.url}/", follow=False).status_code == 302
    assert len(web.requests) == 1


def test_credentials_stay_with_the_first_origin(web, client):
    web.answers["/same"] = redirect("/there")
    web.answers["/other"] = redirect(f"http://localhost:{web.port}/there")
    web.answers["/there"] = reply
    secrets = {"Authorization": "Bearer secret", "X-Key": "secret", "Cookie": "a=secret", "Range": "bytes=3-"}
    get(client, f"{web.url}/same", secrets)
    assert web.requests[-1][1]["authorization"] == "Bearer secret"
    get(client, f"{web.url}/other", secrets)
    path, headers = web.requests[-1]
    assert path == "/there"
    assert "secret" not in str(headers)
    assert headers["range"] == "bytes=3-"
    assert headers["host"] == f"localhost:{web.port}"


def test_cookies_and_proxies_of_the_environment_are_not_used(web, client, limits, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.answers["/"] = lambda handler: reply(handler, Set_Cookie="session=1; Path=/")
    get(client, f"{web.url}/")
    get(GuardedClient(limits), f"{web.url}/")
    get(client, f"{web.url}/")
    assert len(web.requests) == 3
    assert all("cookie" not in headers for _, headers in web.requests)


def test_an_answer_without_end_is_cut_off(web, client):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            handler.close_connection = True

    web.answers["/"] = endless
    with pytest.raises(TooLargeError):
        get(client, f"{web.url}/")


def test_a_long_answer_in_many_pieces_is_read_in_a_time_that_grows_with_its_length_alone():
    class Answer:
        """64 MiB in pieces of 4 KiB: appending to immutable bytes would copy 512 GiB."""

        def iter_raw(self):
            return itertools.repeat(b"x" * 4096, 16_384)

    begun = time.process_time()
    assert len(read_body(Answer(), 64 * 1024**2)) == 64 * 1024**2
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_is_cut_off_when_the_time_is_over(web, client, part):
    slowness = threading.Event()

    def drip(handler):
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: " if part == "head" else b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                handler.wfile.write(b"x")
                slowness.wait(0.01)
        except OSError:
            handler.close_connection = True

    web.answers["/"] = drip
    begun = time.monotonic()
    with pytest.raises(httpx2.TransportError):
        client.request("GET", f"{web.url}/", headers={}, seconds=0.3, max_bytes=10_000_000)
    assert time.monotonic() - begun < 5


def test_a_silent_server_is_given_up(web, limits):
    over = threading.Event()
    web.answers["/"] = lambda handler: over.wait(20)
    impatient = GuardedClient(limits.model_copy(update={"idle_seconds": 0.1}))
    with pytest.raises(httpx2.ReadTimeout):
        get(impatient, f"{web.url}/")
    over.set()


def test_nothing_is_decompressed(web, client):
    import gzip

    web.answers["/"] = lambda handler: reply(handler, body=gzip.compress(b"0" * 500_000), Content_Encoding="gzip")
    with client.stream("GET", f"{web.url}/", headers={}, seconds=20) as response:
        assert sum(map(len, response.iter_raw())) < 1000
    assert web.requests[0][1]["accept-encoding"] == "identity"


def test_a_request_with_a_body_is_sent_once_and_never_redirected(web, client):
    bodies = []

    def take(handler):
        bodies.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        reply(handler, 307, Location="/elsewhere")

    web.answers["/hook"] = take
    answer = client.request("POST", f"{web.url}/hook", headers={}, content=b"{}", seconds=20, max_bytes=100)
    assert (answer.status_code, bodies) == (307, [b"{}"])


@pytest.fixture
def certificate(tmp_path):
    """Files of a certificate for files.example, which signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "files.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("files.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_the_certificate_is_checked_for_the_name_although_the_address_is_pinned(
    web, limits, names, certificate, monkeypatch
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    told = []
    context.sni_callback = lambda connection, name, _: told.append(name)
    web.wrap(context)
    web.answers["/"] = lambda handler: reply(handler, body=b"sealed")
    web.answers["/down"] = redirect(f"http://files.example:{web.port}/")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    names |= {"files.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    client = GuardedClient(limits, lambda host, port: names[host])
    assert get(client, f"https://files.example:{web.port}/").content == b"sealed"
    assert told == ["files.example"]
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        get(client, f"https://other.example:{web.port}/")
    with pytest.raises(AddressRefusedError, match="from https to http"):
        get(client, f"https://files.example:{web.port}/down")
