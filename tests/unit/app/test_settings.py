"""Settings: the environment is validated before the application starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from foobar.settings import Server, SettingsError, from_environment

AUTHORITY = """-----BEGIN CERTIFICATE-----
MIIBmjCCAT+gAwIBAgIUUFftXIgNfD2Ny62Qu8YVO7QeYdYwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIxMTQyODI3WhgPMjEy
NjEwMjgxNDI4MjdaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAE3QoygEZND5+aJmMj75bkTdpJG/NDQco5uIYWCvmq
1A9yON66u7PSp5fqDI1+P+SEtXibWn3qMJTTVdcdWNX6uaNjMGEwHQYDVR0OBBYE
FGbBhChHkkD+7wFhN5XjxQ1nY290MB8GA1UdIwQYMBaAFGbBhChHkkD+7wFhN5Xj
xQ1nY290MA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49
BAMCA0kAMEYCIQCMjy+sbGzSNlFWwwYfCo3Q4GHmcNl3jWbotCM/IWUxKAIhALuB
AbUrJg973txyUsAWBquNoPJFZGMxrozmpi2Zn90h
-----END CERTIFICATE-----
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    ca = tmp_path / "ca.pem"
    ca.write_text(AUTHORITY)
    return {
        "FOOBAR_HOST": "web-02",
        "FOOBAR_DB_HOSTS": "web-01=192.168.56.11, web-02=192.168.56.12",
        "FOOBAR_DB_READ": "web-02,web-01",
        "FOOBAR_DB_USER": "foobar_app",
        "FOOBAR_DB_PASSWORD": "secret-word",
        "FOOBAR_DB_CA": str(ca),
    }


def test_complete_environment(environ: dict[str, str]) -> None:
    settings = from_environment(environ)
    assert settings.servers == (
        Server("web-01", "192.168.56.11"),
        Server("web-02", "192.168.56.12"),
    )
    assert settings.local == "web-02"
    assert settings.address_of("web-01") == "192.168.56.11"
    assert settings.address_of("lb-01") is None
    assert (settings.database, settings.site) == ("foobar", "www.foobar.com")


def test_password_is_not_shown(environ: dict[str, str]) -> None:
    assert "secret-word" not in repr(from_environment(environ))


def test_all_missing_variables_are_named_at_once(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({"FOOBAR_DB_CA": environ["FOOBAR_DB_CA"]})
    missing = {problem.split()[0] for problem in caught.value.problems}
    assert missing == {
        "FOOBAR_DB_HOSTS",
        "FOOBAR_DB_READ",
        "FOOBAR_DB_USER",
        "FOOBAR_DB_PASSWORD",
    }
    assert all(name in str(caught.value) for name in missing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOOBAR_DB_HOSTS", "web-01"),
        ("FOOBAR_DB_HOSTS", "web-01=1.2.3.4,web-01=1.2.3.5"),
        ("FOOBAR_DB_HOSTS", "web 01=1.2.3.4"),
        ("FOOBAR_DB_READ", "web-03"),
        ("FOOBAR_DB_READ", "web-01,web-01"),
        ("FOOBAR_DB_NAME", "foo;bar"),
        ("FOOBAR_HOST", "<web>"),
        ("FOOBAR_DB_CA", "/nowhere/ca.pem"),
    ],
)
def test_error_names_the_variable(environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        from_environment(environ | {name: value})


def test_ca_file_without_certificate(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing here")
    with pytest.raises(SettingsError, match="FOOBAR_DB_CA"):
        from_environment(environ)
