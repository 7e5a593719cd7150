"""The parts of the AWS sources that do no I/O: bodies, positions, paces, error codes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
import pytest
from botocore import exceptions as boto

from dyncdc.errors import ConfigError, FatalError, PositionLostError, RetryableError
from dyncdc.model.shards import HORIZON, Position
from dyncdc.sources.aws_errors import (
    CredentialsError,
    IteratorExpiredError,
    ThrottledError,
    aws_call,
    server_time,
    translate,
)
from dyncdc.sources.kinesis.get_records import DECODED, RecordsBody, decode_get_records, parse_records
from dyncdc.sources.kinesis.record_limit import (
    ANSWER_MAX_BYTES,
    LIMIT_MAX_RECORDS,
    SHARD_BYTES_PER_SECOND,
    RecordLimit,
    may_be_cut,
)
from dyncdc.sources.kinesis.stream_positions import iterator_request, start_from


def client_error(code: str, message: str = "") -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code, "Message": message}}, "GetRecords")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", ThrottledError),
        ("KMSThrottlingException", ThrottledError),
        ("ExpiredIteratorException", IteratorExpiredError),
        ("InternalFailure", RetryableError),
        ("NeverHeardOf", RetryableError),
        ("com.amazonaws.kinesis#NeverHeardOf", RetryableError),
        ("ExpiredTokenException", RetryableError),
        ("AccessDeniedException", CredentialsError),
        ("UnrecognizedClientException", CredentialsError),
        ("InvalidSignatureException", CredentialsError),
        ("InvalidIdentityToken", CredentialsError),
        ("IDPRejectedClaim", CredentialsError),
        ("IDPCommunicationError", RetryableError),
        ("RegionDisabledException", CredentialsError),
        ("MalformedPolicyDocument", CredentialsError),
        ("ResourceNotFoundException", RetryableError),
    ],
)
def test_an_error_is_classified_by_its_code(code: str, kind: type[Exception]) -> None:
    assert type(translate(client_error(code), "reading shard s")) is kind


@pytest.mark.parametrize("code", ["KMSAccessDeniedException", "KMSDisabledException", "KMSNotFoundException"])
def test_k15_trouble_with_the_key_of_a_stream_is_retried_and_says_so(code: str) -> None:
    error = translate(client_error(code, "key arn:x is disabled"), "reading shard s")
    assert type(error) is RetryableError
    assert code in str(error)
    assert "KMS key" in error.hint


@pytest.mark.parametrize("text", ["Signature expired: 2024 is now earlier than", "Signature not yet current: 2024"])
def test_a_signature_of_another_time_is_the_clock_s_and_no_refusal(text: str) -> None:
    error = translate(client_error("InvalidSignatureException", text), "reading shard s")
    assert type(error) is RetryableError
    assert "clock" in error.hint
    assert text not in str(error)


def test_a_certificate_that_is_not_trusted_says_where_to_name_its_ca() -> None:
    error = translate(boto.SSLError(endpoint_url="https://x", error="self-signed"), "reading")
    assert type(error) is RetryableError
    assert "AWS_CA_BUNDLE" in error.hint


def test_credentials_that_are_not_given_say_where_they_are_looked_for() -> None:
    error = translate(boto.CredentialRetrievalError(provider="process", error_msg="secret"), "reading")
    assert "credential_process" in error.hint
    assert "secret" not in str(error)


def test_a_call_says_what_a_code_means_there() -> None:
    special = {"ResourceNotFoundException": (PositionLostError, "gone")}
    assert type(translate(client_error("ResourceNotFoundException"), "reading", special)) is PositionLostError


def test_a_signature_error_never_quotes_what_was_signed() -> None:
    error = translate(client_error("InvalidSignatureException", "x-amz-security-token:SECRET"), "reading")
    assert "SECRET" not in str(error) + error.hint


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (boto.NoCredentialsError(), CredentialsError),
        (boto.ProfileNotFound(profile="p"), ConfigError),
        (boto.NoRegionError(), ConfigError),
        (boto.EndpointConnectionError(endpoint_url="http://x"), RetryableError),
        (boto.ReadTimeoutError(endpoint_url="http://x"), RetryableError),
        (boto.CredentialRetrievalError(provider="p", error_msg="e"), RetryableError),
        (boto.MetadataRetrievalError(error_msg="e"), RetryableError),
        (boto.RefreshWithMFAUnsupportedError(), CredentialsError),
        (ConnectionResetError(), RetryableError),
        (TimeoutError(), RetryableError),
        (msgspec.ValidationError("x"), RetryableError),
    ],
)
async def test_a_failure_without_a_code_is_classified_by_its_class(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        async with aws_call("calling"):
            raise error
    assert str(caught.value).startswith("calling: ")
    assert "\n" not in str(caught.value)


def test_the_time_of_an_answer_is_the_servers() -> None:
    answer = {"ResponseMetadata": {"HTTPHeaders": {"date": "Thu, 11 Jul 2024 23:51:42 GMT"}}}
    assert server_time(answer) == datetime(2024, 7, 11, 23, 51, 42, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("answer", [{}, {"ResponseMetadata": {"HTTPHeaders": {"date": "yesterday"}}}])
def test_without_a_date_our_own_clock_is_never_used(answer: dict[str, object]) -> None:
    with pytest.raises(RetryableError):
        server_time(answer)


@pytest.mark.parametrize(
    ("start", "position"),
    [
        ("TRIM_HORIZON", HORIZON),
        ("LATEST", "AT_TIMESTAMP:2000000000.000"),
        ("2001-09-09T01:46:40Z", "AT_TIMESTAMP:1000000000.000"),
        (datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC), "AT_TIMESTAMP:1000000000.000"),
    ],
)
def test_k4_latest_becomes_a_time_so_that_children_have_no_gap(start: str | datetime, position: str) -> None:
    assert start_from(start, 2e9) == position


def test_a_start_in_the_future_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="in the future"):
        start_from("2001-09-09T01:46:41Z", 1e9)


@pytest.mark.parametrize("start", ["latest", "", "yesterday", "2001-09-09T01:46:40"])
def test_a_start_that_is_none_is_a_config_error(start: str) -> None:
    with pytest.raises(ConfigError):
        start_from(start, 0.0)


def test_every_kind_of_position_asks_for_its_iterator() -> None:
    assert iterator_request(HORIZON) == {"ShardIteratorType": "TRIM_HORIZON"}
    after = iterator_request(Position("49" * 28))
    assert after == {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "49" * 28}
    at = iterator_request(Position("AT_TIMESTAMP:12.500"))
    assert at == {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": datetime.fromtimestamp(12.5, UTC)}


@pytest.mark.parametrize(
    "text", ["", "LATEST", "12a", "-1", "AT_TIMESTAMP:", "AT_TIMESTAMP:nan", "AT_TIMESTAMP:1e99", "१२"]
)
def test_a_position_that_no_source_wrote_is_fatal(text: str) -> None:
    with pytest.raises(FatalError):
        iterator_request(Position(text))


def test_a_body_gives_record_bytes_without_botocores_parser() -> None:
    data = b"\x00\xffany bytes"
    body = (
        b'{"Records":[{"Data":"%s","SequenceNumber":"49","ApproximateArrivalTimestamp":1.5E9,"PartitionKey":"p"}],'
        b'"MillisBehindLatest":7,"NextShardIterator":"i","Unknown":{"a":[1]}}' % base64.b64encode(data)
    )
    response: dict[str, object] = {"status_code": 200, "headers": {}, "body": body}
    custom: dict[str, object] = {}
    decode_get_records(response, custom)
    answer = custom[DECODED]
    assert isinstance(answer, RecordsBody)
    assert (answer.records, answer.positions, answer.arrived) == ([data], ["49"], 1.5e9)
    assert (answer.behind_seconds, answer.iterator, response["body"]) == (0.007, "i", b"{}")


@pytest.mark.parametrize(("status", "kind"), [(400, "application/x-amz-json-1.1"), (200, "application/cbor")])
def test_errors_and_other_encodings_are_left_to_botocore(status: int, kind: str) -> None:
    response: dict[str, object] = {"status_code": status, "headers": {"content-type": kind}, "body": b"raw"}
    custom: dict[str, object] = {}
    decode_get_records(response, custom)
    assert response["body"] == b"raw"
    assert not custom


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"Records":[{"Data":"!","SequenceNumber":"1"}]}',
        b'{"Records":[{"Data":"YQ==","SequenceNumber":"x"}]}',
        b'{"Records":[{"Data":"YQ==","SequenceNumber":""}]}',
        b'{"Records":[{"Data":"YQ=="}]}',
        b'{"Records":[{"Data":"YQ==","SequenceNumber":"1"}',
    ],
)
def test_a_body_that_is_no_answer_is_retried(body: bytes) -> None:
    with pytest.raises(RetryableError):
        parse_records(body)


def test_a_new_shard_starts_small_whatever_is_wanted() -> None:
    assert RecordLimit().limit(50 * 2**20) == 256
    assert RecordLimit().limit(32 * 1024) == 2  # what a shard begins with; each may be 1 MiB
    assert RecordLimit().limit(1) == 1


def test_the_limit_follows_the_size_of_records_seen() -> None:
    pace = RecordLimit()
    pace.answered(10, 10_000)
    assert pace.limit(100_000) == 100
    assert pace.limit(2**40) == min(LIMIT_MAX_RECORDS, ANSWER_MAX_BYTES // 1000)
    pace.answered(1, 400_000)
    assert pace.limit(1_000_000) == 2  # one large record counts at once


def test_k12_a_throttled_shard_asks_for_no_more_than_it_may_give() -> None:
    pace = RecordLimit()
    pace.answered(1000, 1_000_000)
    for _ in range(20):
        pace.throttled(pause_seconds=0.25)
    assert pace.limit(2**30) * 1000 <= SHARD_BYTES_PER_SECOND * 0.25
    for _ in range(200):
        pace.answered(0, 0)
    assert pace.limit(2**30) == LIMIT_MAX_RECORDS


def test_an_answer_is_cut_where_the_next_record_may_not_have_fitted() -> None:
    assert not may_be_cut(1, 2**20 - 1, 10)
    assert may_be_cut(1, 2**20, 10) and may_be_cut(10, 1, 10)
    assert may_be_cut(1, 1, 10, ANSWER_MAX_BYTES), "a record may fill an answer alone"
    assert not may_be_cut(0, 0, 10, ANSWER_MAX_BYTES), "without a record there is nothing that it was cut behind"
