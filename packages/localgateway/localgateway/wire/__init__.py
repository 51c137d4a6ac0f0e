"""Bytes: HTTP/1.1, WebSocket frames, TLS, and who may send them.

Knows nothing of routes and functions. Whatever a client sends, it is bounded.
"""
