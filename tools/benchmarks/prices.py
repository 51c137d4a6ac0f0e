"""AWS's prices: USD per million, us-east-1, on demand, as published in November 2026; no free tier."""

WRITE_UNIT, READ_UNIT = 0.625, 0.125
MESSAGE = 1.00
CONNECTION_MINUTE = 0.25
SQS_REQUEST = 0.40
LAMBDA_REQUEST, LAMBDA_GB_S = 0.20, 16.6667
