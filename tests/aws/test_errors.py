"""Errors of @connections are read as botocore reads them."""

import json

from botocore import exceptions
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.errors import refusal
from chalicelib.aws.http1 import Answer

CODES = st.sampled_from(["GoneException", "a.b#GoneException:http://x/", "ns#Other", "", ":", "#"])
BODIES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"  ", b"<html>x</html>", b"[]", b"null", b'"text"', b"1", b'{"code":1}', b"\xff"]),
    st.dictionaries(st.sampled_from(["message", "Message", "code", "Code", "__type"]), CODES | st.text(max_size=5)).map(
        lambda body: json.dumps(body).encode()
    ),
)


@given(
    status=st.integers(301, 599),
    headers=st.dictionaries(st.sampled_from(["x-amzn-errortype", "x-amzn-requestid"]), CODES),
    body=BODIES,
)
def test_code_and_message_are_botocores(status: int, headers: dict[str, str], body: bytes) -> None:
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    answer = Answer(status, body, is_last=False, head=f"HTTP/1.1 {status}{lines}".encode())
    error = refusal(answer, "PostToConnection", retries=None)
    try:
        parsed = create_parser("rest-json").parse({"status_code": status, "headers": headers, "body": body}, None)
        expected = parsed["Error"]
    except Exception:
        expected = {"Code": None}
    if isinstance(expected["Code"], str):
        assert isinstance(error, exceptions.ClientError)
        assert error.response["Error"] == expected
    else:
        # Where botocore breaks down, or takes something for a code that can be none.
        assert isinstance(error, exceptions.HTTPClientError)
