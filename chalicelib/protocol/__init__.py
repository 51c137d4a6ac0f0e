"""docs/PROTOCOL.md as code: read and check what clients and AWS send; write what the server says, in either codec.

Always true: pure, without AWS, clock or state. What comes from outside is checked here, and its reader raises Invalid,
or another ClientError, where it does not fit.
"""
