"""Refusals are read as botocore reads them."""

import json

from botocore import exceptions
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.errors import refusal
from chalicelib.aws.http1 import Response

CODES = st.sampled_from(["GoneException", "a.b#GoneException:http://x/", "ns#Other", "", ":", "#"])
BODIES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"  ", b"<html>x</html>", b"[]", b"null", b'"text"', b"1", b'{"code":1}', b"\xff"]),
    st.dictionaries(st.sampled_from(["message", "Message", "code", "Code", "__type"]), CODES | st.text(max_size=5)).map(
        lambda body: json.dumps(body).encode()
    ),
)


JSON_BODIES = st.dictionaries(st.sampled_from(["message", "Message", "__type"]), CODES | st.text(max_size=5)).map(
    lambda body: json.dumps(body).encode()
)
QUERY_ERRORS = st.sampled_from(["AWS.SimpleQueueService.NonExistentQueue;Sender", "a;b;c", "a", ";Sender", ""])


@given(
    status=st.integers(301, 599),
    headers=st.dictionaries(st.sampled_from(["x-amzn-errortype", "x-amzn-requestid"]), CODES),
    body=BODIES,
)
def test_code_and_message_are_botocores(status: int, headers: dict[str, str], body: bytes) -> None:
    check("rest-json", status, headers, body)


@given(
    status=st.integers(301, 599),
    headers=st.fixed_dictionaries({}, optional={"x-amzn-query-error": QUERY_ERRORS, "x-amzn-requestid": CODES}),
    body=JSON_BODIES,
)
def test_those_of_sqs_are_botocores_too(status: int, headers: dict[str, str], body: bytes) -> None:
    check("json", status, headers, body)


def check(protocol: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """Compare our reading with botocore's."""
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    response = Response(status, body, is_last=False, head=f"HTTP/1.1 {status}{lines}".encode())
    error = refusal(response, "PostToConnection")
    try:
        parsed = create_parser(protocol).parse({"status_code": status, "headers": headers, "body": body}, None)
        expected = parsed["Error"]
    except Exception:
        expected = {"Code": None}
    if isinstance(expected["Code"], str):
        assert isinstance(error, exceptions.ClientError)
        assert error.response["Error"] == {name: expected[name] for name in ("Code", "Message")}
    else:
        # Where botocore fails, or takes for a code what cannot be one.
        assert isinstance(error, exceptions.HTTPClientError)
