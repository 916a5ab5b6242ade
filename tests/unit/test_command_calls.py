"""How commands reach the service, without one."""

import pytest

from service.commands.calls import named


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        (None, None, ""),
        ("http://there:1", None, " --url http://there:1"),
        ("http://there:1", "http://elsewhere:1", " --url http://there:1"),
        ("http://there:1", "http://there:1", ""),
        ("http://there/a&b", None, " --url 'http://there/a&b'"),
    ],
)
def test_a_further_command_needs_the_address_that_the_environment_does_not_give(
    monkeypatch: pytest.MonkeyPatch, url: str | None, environment: str | None, words: str
) -> None:
    monkeypatch.setenv("EPOCHD_URL", environment or "")
    assert named(url) == words
