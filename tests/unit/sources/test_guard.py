import pytest

from tunesmith.sources._guard import Guard, UnknownHostError, parse_url
from tunesmith.spec.errors import AddressRefusedError, InvalidRequestError, TunesmithError

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "5f00::1",
    "4000::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


def guard(*addresses, allowed=()):
    return Guard(allowed, lambda host, port: addresses)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_and_not_told(address):
    with pytest.raises(AddressRefusedError) as caught:
        guard(address).addresses("data.example", 443)
    assert address not in caught.value.info.sentence()


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address):
    assert len(guard(address).addresses("data.example", 443)) == 1


def test_a_name_with_one_private_address_among_public_ones_is_refused():
    with pytest.raises(AddressRefusedError):
        guard("8.8.8.8", "1.1.1.1", "10.0.0.1").addresses("data.example", 443)


def test_a_name_with_a_hundred_addresses_has_each_of_them_checked():
    many = [f"8.8.8.{number}" for number in range(100)]
    assert len(guard(*many).addresses("data.example", 443)) == 100
    with pytest.raises(AddressRefusedError):
        guard(*many, "127.0.0.1").addresses("data.example", 443)


def test_the_operators_networks_are_allowed_in_every_spelling():
    from ipaddress import ip_network

    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5"):
        assert guard(address, allowed=allowed).addresses("data.example", 443)
    with pytest.raises(AddressRefusedError):
        guard("10.2.0.1", allowed=allowed).addresses("data.example", 443)


def test_a_name_without_an_address_is_told():
    def nowhere(host, port):
        raise OSError("no such host")

    with pytest.raises(UnknownHostError, match=r"'nowhere\.example' was not found"):
        Guard((), nowhere).addresses("nowhere.example", 443)


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://169.254.169.254./",
        "http://user:pass@data.example/",
        "http://token@data.example/",
        "http://data.example\\@evil.example/",
        "http://data.example:22/",
        "http://data.example:0/",
        "http://data.example:99999/",
        "https://data.example:8/",
        "ftp://data.example/rows",
        "gopher://data.example/",
        "file:///etc/passwd",
        "data:text/plain,rows",
        "s3://bucket/key",
        "",
    ],
)
def test_a_url_that_leads_astray_is_refused(url):
    with pytest.raises(AddressRefusedError) as caught:
        parse_url(url)
    assert "pass" not in caught.value.info.sentence().replace("password", "").replace("/etc/passwd", "")


@pytest.mark.parametrize(
    "url",
    [
        "http:///rows",
        "http:rows",
        "http://data.example\\.evil.example/",
        "http://data.exa mple/",
        "http://data.example/a\r\nHost: evil",
        "http://data.example/a\tb",
        "http://data.example/a\x7f",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://d\u0430ta.example/",
        "http://data%2eexample/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://data.example:port/",
        "http://data.example/" + "a" * 9000,
    ],
)
def test_a_malformed_url_is_refused(url):
    with pytest.raises(InvalidRequestError):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://data.example/rows.jsonl",
        "http://data.example:8080/rows.jsonl?token=a%2Fb#part",
        "https://[2606:4700::1111]/rows",
        "HTTPS://Data.Example/",
        "https://xn--bcher-kva.example/",
        "https://data.example/d\u00e4ta.jsonl",
        "https://data.example/@scope/rows",
        "https://data.example",
    ],
)
def test_an_ordinary_url_is_read(url):
    assert parse_url(url).scheme in ("http", "https")


def test_a_fragment_or_query_with_an_at_sign_changes_no_host():
    assert parse_url("https://data.example#@evil.example/").host == "data.example"
    assert parse_url("https://data.example?@evil.example/").host == "data.example"


def test_every_refusal_is_an_error_with_a_code():
    for url in ("http://127.1/", "http:///"):
        with pytest.raises(TunesmithError) as caught:
            parse_url(url)
        assert caught.value.info.code in ("address_refused", "invalid_request")
