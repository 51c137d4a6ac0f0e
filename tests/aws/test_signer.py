"""What is signed with follows the credentials and the other side's clock."""

from email.utils import formatdate

import pytest

from chalicelib.aws.http1 import Answer
from chalicelib.aws.signer import SKEW_SECONDS, Signer
from chalicelib.aws.sigv4 import Credentials
from tests.conftest import Clock


@pytest.fixture
def signer(clock: Clock) -> Signer:
    return Signer("h", "eu-central-1", "dynamodb", lambda: Credentials("A", "s", None), clock)


def dated(epoch: float) -> Answer:
    return Answer(403, b"", False, f"HTTP/1.1 403 Forbidden\r\nDate: {formatdate(epoch, usegmt=True)}".encode())


def test_what_is_common_to_a_second_is_made_once_for_each_kind(signer: Signer, clock: Clock) -> None:
    get = signer.now("Get", {"X-Amz-Target": "Get"})
    assert signer.now("Get", {"X-Amz-Target": "Get"}) is get
    assert signer.now("Put", {"X-Amz-Target": "Put"}) is not get
    clock.now += 1
    assert signer.now("Get", {"X-Amz-Target": "Get"}) is not get


@pytest.mark.parametrize("off", [SKEW_SECONDS, -SKEW_SECONDS, 86_400])
def test_a_clock_that_is_far_off_is_set(signer: Signer, clock: Clock, off: int) -> None:
    assert signer.set_clock(dated(clock.now + off), signer.now())
    assert signer.now().epoch == clock.now + off
    assert not signer.set_clock(dated(clock.now + off), signer.now())


def test_whoever_signed_before_it_was_set_may_sign_again(signer: Signer, clock: Clock) -> None:
    first = second = signer.now()
    assert signer.set_clock(dated(clock.now + 600), first)
    assert signer.set_clock(dated(clock.now + 600), second)
    assert signer.now().epoch == clock.now + 600


@pytest.mark.parametrize("head", [b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 403 Forbidden\r\nDate: yesterday"])
def test_without_a_date_it_is_believed(signer: Signer, head: bytes) -> None:
    assert not signer.set_clock(Answer(403, b"", False, head), signer.now())


def test_seconds_do_not_make_a_difference(signer: Signer, clock: Clock) -> None:
    assert not signer.set_clock(dated(clock.now + SKEW_SECONDS - 1), signer.now())
