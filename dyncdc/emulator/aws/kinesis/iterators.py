"""Shard iterators and page tokens: opaque to clients, readable in a log. They expire, and die with their stream."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.emulator.aws.server.wire import AwsError


@dataclass(frozen=True, slots=True)
class Iterator:
    """Where the next GetRecords begins: the index of a record, counted from the shard's first one ever."""

    stream_arn: str
    stream_created: float
    shard_id: str
    index: int
    born: float

    def encode(self) -> str:
        """Return the text that a client carries."""
        return f"{self.stream_arn}|{self.stream_created!r}|{self.shard_id}|{self.index}|{self.born!r}"

    @classmethod
    def decode(cls, text: str) -> Iterator:
        """Read it back.

        Raises:
            AwsError: InvalidArgumentException.
        """
        try:
            arn, created, shard_id, index, born = text.split("|")
            return cls(arn, float(created), shard_id, int(index), float(born))
        except ValueError:
            raise AwsError("InvalidArgumentException", "Invalid ShardIterator.") from None

    def check_age(self, now: float, ttl_seconds: float) -> None:
        """Refuse an iterator older than ``ttl_seconds``.

        Raises:
            AwsError: ExpiredIteratorException.
        """
        if now - self.born > ttl_seconds:
            raise AwsError(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created at time {self.born:.0f} while right now it is {now:.0f} "
                f"which is further in the future than the tolerated delay of {ttl_seconds * 1000:.0f} milliseconds.",
            )


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page of ListShards begins, and which filter it belongs to."""

    stream_arn: str
    after_shard_id: str
    filter_text: str
    born: float

    def encode(self) -> str:
        """Return the text that a client carries."""
        return f"{self.stream_arn}|{self.after_shard_id}|{self.filter_text}|{self.born!r}"

    @classmethod
    def decode(cls, text: str, now: float, ttl_seconds: float) -> PageToken:
        """Read it back and check its age.

        Raises:
            AwsError: InvalidArgumentException, ExpiredNextTokenException.
        """
        try:
            arn, after, filter_text, born = text.split("|")
            token = cls(arn, after, filter_text, float(born))
        except ValueError:
            raise AwsError("InvalidArgumentException", "Invalid NextToken.") from None
        if now - token.born > ttl_seconds:
            raise AwsError("ExpiredNextTokenException", "NextToken has expired.")
        return token
