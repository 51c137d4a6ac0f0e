"""The AWS around the handlers: region, credentials, and an engine for the tables and queues of resources.json.

Nothing here reaches AWS itself unless the environment names it as an endpoint.
"""
