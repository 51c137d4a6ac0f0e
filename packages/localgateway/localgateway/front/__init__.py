"""Everything that listens on a port: the WebSocket API, the REST routes, and Lambda's Invoke.

Every request is checked for where it comes from before anything else happens to it.
"""
