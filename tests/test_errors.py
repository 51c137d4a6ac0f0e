"""What errors say to people; where each is raised is tested there."""

import pytest

from chalicelib import errors


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.Forbidden(), "You may not do that."),
        (errors.NotSubscribed("chat:a"), "You are not subscribed to chat:a."),
        (errors.RateLimited(), "Too many frames: send slower."),
        (errors.LimitExceeded("channels", 100), "More than 100 channels are not allowed."),
    ],
)
def test_a_refusal_says_what_is_wrong(error: errors.ClientError, sentence: str) -> None:
    assert str(error) == sentence


def test_only_what_time_mends_is_retryable() -> None:
    assert [kind.code for kind in errors.ClientError.__subclasses__() if kind.retryable] == ["rate_limited"]
