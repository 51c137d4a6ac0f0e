"""The sentence of each error. Tests of the code that raises it check when it is raised."""

import pickle

import pytest

from chalicelib import errors


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.Forbidden(), "This is not allowed."),
        (errors.NotSubscribed(), "Not subscribed to this channel."),
        (errors.RateLimited(), "Too many frames: wait a moment."),
        (errors.LimitExceeded("channels", 100), "At most 100 channels."),
        (errors.UnknownAction("x" * 99), f"There is no action '{'x' * 64}'."),
        (errors.Invalid("{field}", "must {0}"), "{field} must {0}."),
    ],
)
def test_a_refusal_says_what_is_wrong(error: errors.ClientError, sentence: str) -> None:
    assert str(error) == sentence


def test_an_app_may_raise_its_own_client_error() -> None:
    class SoldOut(errors.ClientError):
        code = "sold_out"

    assert str(SoldOut("No seats left.")) == "No seats left."


@pytest.mark.parametrize(
    "error", [errors.Unauthenticated(), errors.Invalid("a", "b"), errors.ConfigurationError("A", "must be b", "c")]
)
def test_an_error_survives_pickling(error: errors.PealError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (repr(copy), str(copy), vars(copy)) == (repr(error), str(error), vars(error))


def test_only_a_rate_limit_is_retryable() -> None:
    assert [kind.code for kind in errors.ClientError.__subclasses__() if kind.retryable] == ["rate_limited"]
