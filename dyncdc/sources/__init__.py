"""AWS as sources of shards: Kinesis streams, DynamoDB exports in S3, and what tables say about themselves."""
