"""Every row of the table: connections, members, the log of publications, leases, tickets, the management endpoint.

Always true: other rooms see records, never items or keys; only this room imports `table` and `keys`; what has expired
is not there, whether or not DynamoDB has deleted it yet.
"""
