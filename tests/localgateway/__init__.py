"""The local gateway's specification; what Amazon API Gateway is known to do is in `conformance`."""
