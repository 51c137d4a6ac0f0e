"""API Gateway: which route a message takes, what a handshake becomes, who may connect, and the calls of @connections.

Everything here lives on one event loop and speaks of connections, never of sockets or bytes.
"""
