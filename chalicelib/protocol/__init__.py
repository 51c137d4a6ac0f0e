"""PROTOCOL.md as code: frames and their two codecs, publications, channel names, grants, identities, events and jobs.

Always holds: this room is pure. It does no I/O, reads no clock and keeps no state. What comes from outside is checked
here once, and what does not fit raises a ClientError.
"""
