"""AWS's own protocols, and nothing of Peal's domain: DynamoDB, @connections, SQS, secrets, and what signs requests.

What always holds:
- A call returns and raises what boto3's client of the service would, so callers never need to know which one they have:
  ClientError where the service refuses; BotoCoreError where no response comes, or an unreadable one, and where there
  are no credentials. As with boto3, a retry after a lost response can do the same thing twice.
- One client (`client`) signs, sends, judges and retries for all services, over connections that it keeps (`http`).
- Importing this room imports neither boto3 nor urllib3. Both are loaded at first use, where the environment, a proxy or
  a setting leaves no other way: importing them takes longer than everything else a Lambda does until its first frame.
- No request outlasts the limits of its client, whatever the other side does.
- No secret, credential or payload reaches a log or an error.

    dynamodb  management  queue     a client each for DynamoDB, @connections and SQS
    secrets   session               settings that are kept elsewhere; what the environment says about AWS
    client    errors                sign, send, judge, retry; a refusal as boto3's exception
    http      http1     sigv4       connections to a host; a response's bytes; Signature Version 4
"""
