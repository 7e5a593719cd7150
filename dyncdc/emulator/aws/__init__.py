"""The local AWS: Kinesis, DynamoDB with streaming destinations and exports, and S3, on 127.0.0.1, as a child process.

``async with LocalAws() as aws:`` and any SDK with ``endpoint_url=aws.endpoint_url`` (any credentials). By hand:
``python -m dyncdc.emulator.aws --port 4566``. Nothing is kept on disk. Switches, faults and counters: ``control``.
"""

from .client import LocalAws, LocalAwsError

__all__ = ["LocalAws", "LocalAwsError"]
