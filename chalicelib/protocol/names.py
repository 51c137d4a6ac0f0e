"""Names that become part of a table key, and what they may look like.

Invariant: no name contains `#`, which separates the parts of a key; so no name can reach into another's rows.
"""

import re

from chalicelib.errors import Invalid

MAX_NAME_CHARS = 128
# The same as a pattern, also for JSON Schema and other dialects.
NAME = rf"[A-Za-z0-9._~@:|=+-]{{1,{MAX_NAME_CHARS}}}"
_NAME = re.compile(NAME)


def check_name(value: object, field: str) -> str:
    """`value` is a name that may stand in a key: a user, device or connection id.

    Args:
        value: anything a client, a URL or a token said.
        field: what the caller calls it, for the message.

    Raises:
        Invalid: no string, empty, longer than MAX_NAME_CHARS, or with a character outside the alphabet.
    """
    if not isinstance(value, str):
        raise Invalid(field, "must be a string")
    if not _NAME.fullmatch(value):
        raise Invalid(field, f"must be 1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 . _ ~ @ : | = + -")
    return value
