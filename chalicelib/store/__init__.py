"""Every row of the table: connections, members, the log of publications, leases, tickets, the management endpoint.

Always true: other rooms see records, never items or keys; only this room imports `table` and `keys`; what has expired
counts as absent, whether or not DynamoDB has deleted it yet. Whatever reaches DynamoDB may raise TableError, and a
write that raised it may have taken place.
"""
