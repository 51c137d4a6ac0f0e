"""A connection's life: it connects, signs in, is listed, broadcast to, closed, and found when it ended unnoticed.

Always true: a connection's end removes its own rows and no other; no socket stays open without a row.
"""
