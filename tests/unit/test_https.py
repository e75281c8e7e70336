"""The controller's HTTPS client, against a real TLS server on the loopback interface."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab
from provision.core.pki import CertificateAuthority
from provision.services.tls import https
from tests.unit.samples import context

ADDRESS = IPv4Address("127.0.0.1")


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", "web-01")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose front is the loopback interface."""
    lab = context("secured", root=tmp_path).lab
    front, *others = lab.machines
    machines = (replace(front, address=ADDRESS), *others)
    network = IPv4Network("127.0.0.0/24")
    return replace(lab, topology=replace(lab.topology, machines=machines, network=network))


@pytest.fixture
def server(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A TLS server with a certificate for the site, by the lab's authority."""
    authority = CertificateAuthority(lab.directory)
    bundle = tmp_path / "site.pem"
    bundle.write_text("".join(authority.issue(lab.site, [ADDRESS], [lab.site])))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(bundle)
    with http.server.ThreadingHTTPServer((str(ADDRESS), 0), Site) as site:
        site.daemon_threads = True
        site.handle_error = lambda *_: None  # type: ignore[method-assign]
        site.socket = tls.wrap_socket(site.socket, server_side=True)
        monkeypatch.setattr(https, "HTTPS_PORT", site.server_port)
        threading.Thread(target=site.serve_forever, args=(0.05,), daemon=True).start()
        yield
        site.shutdown()


@pytest.mark.usefixtures("server")
def test_a_request_is_for_the_sites_name_and_verifies_it(lab: Lab) -> None:
    response = https.request(lab, "/")
    assert (response.status, response.body, response.error) == (200, lab.site, "")
    assert response.header("X-Served-By") == "web-01"


@pytest.mark.usefixtures("server")
def test_a_handshake_reports_version_and_names(lab: Lab) -> None:
    handshake = https.handshake(lab)
    assert (handshake.version, handshake.error) == ("TLSv1.3", "")
    assert lab.site in handshake.names


@pytest.mark.usefixtures("server")
def test_a_certificate_for_another_name_is_refused(lab: Lab) -> None:
    other = replace(lab, topology=replace(lab.topology, domain="example.org"))
    for error in (https.request(other, "/").error, https.handshake(other).error):
        assert "Hostname mismatch" in error


@pytest.mark.usefixtures("server")
def test_a_certificate_of_another_authority_is_refused(lab: Lab, tmp_path: Path) -> None:
    CertificateAuthority(tmp_path / "other").pem()
    (tmp_path / "other" / "ca.pem").replace(lab.directory / "ca.pem")
    assert "certificate verify failed" in https.handshake(lab).error


def test_a_refused_connection_is_reported_with_its_reason(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind((str(ADDRESS), 0))
        monkeypatch.setattr(https, "HTTP_PORT", closed.getsockname()[1])
    assert https.request(lab, "/", plain=True).error.endswith("Connection refused")
