"""PROTOCOL.md as code: frames and their two codecs, publications, channel names, grants, identities, events and jobs.

Always holds: this room is pure. It does no I/O, reads no clock and keeps no state. It checks once what comes from
outside, so that the other rooms need not.
"""
