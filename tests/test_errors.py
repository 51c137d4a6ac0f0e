"""What errors say to people; where each is raised is tested there."""

import pytest

from chalicelib import errors


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.Forbidden(), "This is not allowed."),
        (errors.NotSubscribed(), "Not subscribed to this channel."),
        (errors.RateLimited(), "Too many frames: wait a moment."),
        (errors.LimitExceeded("channels", 100), "At most 100 channels."),
    ],
)
def test_a_refusal_says_what_is_wrong(error: errors.ClientError, sentence: str) -> None:
    assert str(error) == sentence


def test_only_a_rate_limit_is_retryable() -> None:
    assert [kind.code for kind in errors.ClientError.__subclasses__() if kind.retryable] == ["rate_limited"]
