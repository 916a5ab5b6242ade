"""A service that a command runs for itself."""

import http.server
from pathlib import Path

import pytest

from service.background import ServiceError, running_service
from service.settings import Settings
from tests.http_servers import Ready, answering

pytestmark = pytest.mark.slow


class Stranger(Ready):
    """Notes what it is asked."""

    asked: list[str]

    def do_GET(self) -> None:  # noqa: N802 - http.server's
        self.asked.append(self.path)
        super().do_GET()


def test_who_listens_on_the_port_already_is_not_taken_for_the_own_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stranger, "asked", [], raising=False)
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)) as stranger:
        settings = Settings(data_dir=tmp_path, port=stranger.server_port)
        told = f"cannot listen on 127.0.0.1 port {stranger.server_port}"
        with pytest.raises(ServiceError, match=told), running_service(settings, log_name="own.log"):
            pass
    assert Stranger.asked == []


def test_the_own_service_is_asked_without_the_key_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHD_SLOTS", "1")
    monkeypatch.setenv("EPOCHD_API_KEY", "one that no client can send")
    with running_service(Settings(data_dir=tmp_path, port=0), log_name="own.log") as (api, url):
        assert api.url == url
        assert api.page().data == ()
