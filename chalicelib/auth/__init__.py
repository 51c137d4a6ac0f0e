"""Who a client is, and what it may do: tokens, tickets, origins, grants.

Always true: closed by default; a refusal tells our log one word and the client nothing; no credential is logged.
"""
