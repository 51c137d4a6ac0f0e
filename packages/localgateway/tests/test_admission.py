"""Which requests are served at all, and which are a browser's on behalf of a page that has no business here."""

import pytest

from gatewaykit import ECHO, NEVER_USED, SIGNED, handshake, read_response
from localgateway.wire.admission import Admission
from localgateway.wire.http import Request

HERE = ["localhost", "localhost:8001", "LOCALHOST.", "app.localhost:1", "127.0.0.1:8001", "127.1.2.3", "[::1]:8001"]
ELSEWHERE = ["evil.example", "evil.example:8001", "localhost.evil.example", "notlocalhost", "[::1", "", "a@b@c", None]


def request(*headers: tuple[str, str]) -> Request:
    return Request("GET", "/", "1.1", list(headers), b"", is_upgrade=False, is_last=False)


def for_host(host: str | None) -> Request:
    return request() if host is None else request(("Host", host))


class TestHost:
    """DNS rebinding: a page's own name comes to mean 127.0.0.1, and the browser takes us for the page's own server."""

    @pytest.mark.parametrize("host", HERE)
    def test_loopback_is_known_by_its_names_and_addresses_on_any_port(self, host):
        admission = Admission("127.0.0.1")
        assert admission.admits_handshake(for_host(host))
        assert admission.admits_call(for_host(host))

    @pytest.mark.parametrize("host", ELSEWHERE)
    def test_other_names_and_none_are_refused(self, host):
        admission = Admission("127.0.0.1")
        assert not admission.admits_handshake(for_host(host))
        assert not admission.admits_call(for_host(host))

    def test_an_address_is_no_foreign_name(self):
        assert Admission("0.0.0.0").admits_call(for_host("192.168.7.7:8001"))

    def test_the_address_listened_on_and_the_allowed_names_are_known(self):
        assert Admission("gateway.test").admits_call(for_host("gateway.test:8001"))
        assert Admission("127.0.0.1", frozenset({"tunnel.test"})).admits_call(for_host("Tunnel.test"))

    def test_beyond_loopback_only_sockets_may_be_asked_for_under_any_name(self):
        admission = Admission("0.0.0.0")
        assert admission.admits_handshake(for_host("desk-of-alice.lan"))
        assert not admission.admits_call(for_host("desk-of-alice.lan"))

    def test_the_log_names_the_option_that_would_admit_it(self, caplog):
        Admission("127.0.0.1").admits_call(for_host("evil.example\x1b[2J"))
        assert r"Refused a request for the host 'evil.example\x1b[2J': --allow-host would admit it." in caplog.text


class TestOrigin:
    @pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", ""])
    def test_a_page_of_another_site_may_open_sockets_and_nothing_else(self, origin):
        page = request(("Host", "localhost:8001"), ("Origin", origin))
        assert Admission("127.0.0.1").admits_handshake(page)
        assert not Admission("127.0.0.1").admits_call(page)

    def test_a_page_of_this_gateway_may_call(self):
        page = request(
            ("Host", "localhost:8001"), ("Origin", "http://LocalHost:8001"), ("Sec-Fetch-Site", "same-origin")
        )
        assert Admission("127.0.0.1").admits_call(page)

    @pytest.mark.parametrize(("site", "is_admitted"), [("cross-site", False), ("same-site", False), ("none", True)])
    def test_where_a_browser_tells_no_origin_it_tells_the_site(self, site, is_admitted):
        page = request(("Host", "localhost"), ("Sec-Fetch-Site", site))
        assert Admission("127.0.0.1").admits_call(page) is is_admitted


class TestOnSockets:
    def ask(self, serve, *headers: str, **options: object) -> int:
        lines = [f"GET /api/@connections/{NEVER_USED} HTTP/1.1", SIGNED, *headers, "", ""]
        return read_response(serve(ECHO, **options).raw("\r\n".join(lines).encode()))[0]

    def test_a_program_is_served(self, serve):
        assert self.ask(serve, "Host: localhost") == 410

    def test_a_rebound_name_is_not(self, serve):
        assert self.ask(serve, "Host: evil.example") == 403

    def test_an_allowed_name_is(self, serve):
        assert self.ask(serve, "Host: tunnel.test", allow_hosts=["tunnel.test"]) == 410

    def test_a_page_is_not(self, serve):
        assert self.ask(serve, "Host: localhost", "Origin: https://evil.example") == 403

    def test_a_page_gets_its_socket(self, serve):
        assert read_response(serve(ECHO).raw(handshake("/api", "Origin: https://evil.example")))[0] == 101

    def test_a_page_under_a_rebound_name_gets_no_socket(self, serve):
        data = handshake("/api").replace(b"Host: localhost", b"Host: evil.example")
        assert read_response(serve(ECHO).raw(data))[0] == 403

    def test_a_page_cannot_reach_connections_by_asking_for_a_socket_there(self, serve):
        data = handshake(f"/api/@connections/{NEVER_USED}", SIGNED, "Origin: https://evil.example")
        assert read_response(serve(ECHO).raw(data))[0] == 403
