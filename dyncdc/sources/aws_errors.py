"""AWS errors into the error tree, once, by code: the only place that knows what a code of an AWS service means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from dyncdc.errors import AccessDeniedError, ConfigError, CorruptSnapshotError, DyncdcError, RetryableError

CALL_TIMEOUT_SECONDS = 90.0
"""Longest that one call may take, the SDK's second attempt included: a server that trickles bytes holds no task."""

MESSAGE_MAX_CHARS = 300


class CredentialsError(AccessDeniedError):
    """AWS refuses who we are or what we may do."""


class ThrottledError(RetryableError):
    """The caller asks too fast or for too much."""


class IteratorExpiredError(RetryableError):
    """A shard iterator is older than five minutes; a new one from the same position goes on."""


Verdict = tuple[type[DyncdcError], str]
"""The class to raise, and its hint."""

_CLOCK = "the clock of this machine is wrong by minutes, or the credentials have expired"
_IDENTITY = (
    "check the AWS credentials of this process (environment, profile, credential_process or role) and aws.region; what"
    " stands in its environment is read at a restart"
)
_REGION = "enable the region in the account, or correct aws.region"
_ACCESS = "grant the missing permission; `dyncdc init` prints the policy that is needed"
_KMS = "reading goes on by itself once the stream's KMS key can be used again; check its state and key policy"

VERDICTS: Mapping[str, Verdict] = {
    **dict.fromkeys(
        (
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "Throttling",
            "ThrottledException",
            "RequestLimitExceeded",
            "LimitExceededException",
            "KMSThrottlingException",
            "TooManyRequestsException",
            "SlowDown",
            "503",
        ),
        (ThrottledError, ""),
    ),
    **dict.fromkeys(("ExpiredIteratorException",), (IteratorExpiredError, "")),
    **dict.fromkeys(
        (
            "KMSAccessDeniedException",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMSNotFoundException",
            "KMSOptInRequired",
            "KMS.DisabledException",
        ),
        (RetryableError, _KMS),
    ),
    **dict.fromkeys(
        ("ExpiredTokenException", "ExpiredToken", "RequestExpired", "RequestTimeTooSkewed", "TokenRefreshRequired"),
        (RetryableError, _CLOCK),
    ),
    **dict.fromkeys(("AccessDeniedException", "AccessDenied", "403", "AllAccessDisabled"), (CredentialsError, _ACCESS)),
    **dict.fromkeys(
        (
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "AuthFailure",
            "InvalidToken",
            "InvalidIdentityToken",
            "InvalidIdentityTokenException",
            "IDPRejectedClaim",
            "MalformedPolicyDocument",
        ),
        (CredentialsError, _IDENTITY),
    ),
    **dict.fromkeys(
        ("OptInRequired", "SubscriptionRequiredException", "RegionDisabledException"), (CredentialsError, _REGION)
    ),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), (ConfigError, "create the bucket or correct its name")),
    "InvalidObjectState": (CorruptSnapshotError, "the object was archived; restore it in S3"),
}
"""What a code means wherever it appears. A code that is missing here and in the call's own table is retryable."""

IDENTITY_CODES = frozenset(code for code, (_, hint) in VERDICTS.items() if hint in (_IDENTITY, _CLOCK))
"""Codes that say of the credentials themselves that they are wrong, or not in force."""

CLOCK_TEXTS = ("Signature expired", "Signature not yet current")
"""How InvalidSignatureException begins where only the time of the signature is wrong: a clock, or a machine that slept
between signing and sending. Source: AWS Signature Version 4, troubleshooting."""

SAFE_MESSAGES = frozenset(code for code, verdict in VERDICTS.items() if verdict[1] in (_ACCESS, _KMS)) | {
    "ResourceNotFoundException",
    "TableNotFoundException",
    "InvalidArgumentException",
    "PointInTimeRecoveryUnavailableException",
}
"""Codes whose text is shown: it names the action and the resource. Texts of signature errors quote session tokens."""

_CREDENTIALS_MISSING = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.SSOError,
    boto.NoAuthTokenError,
    boto.RefreshWithMFAUnsupportedError,
)
_CREDENTIALS_NOT_GIVEN = (boto.CredentialRetrievalError, boto.MetadataRetrievalError, boto.TokenRetrievalError)
"""The provider of credentials did not answer, or not well: a process, an instance's metadata, an identity provider."""

MISCONFIGURED = (
    boto.ProfileNotFound,
    boto.NoRegionError,
    boto.InvalidRegionError,
    boto.ParamValidationError,
    boto.ConfigParseError,
    boto.InvalidConfigError,
    boto.InvalidRetryConfigurationError,
)
# The last four are how botocore's parsers fail on JSON of another shape than the service's model.
_UNREADABLE = (msgspec.MsgspecError, ResponseParserError, AttributeError, TypeError, LookupError, ValueError)
_TRANSLATED = (boto.ClientError, boto.BotoCoreError, aiohttp.ClientError, OSError, TimeoutError, *_UNREADABLE)


def error_code(error: BaseException) -> str:
    """The code by which AWS names an error, or the class of what failed before AWS answered."""
    return error_code_of(error.response) if isinstance(error, boto.ClientError) else type(error).__name__


def error_code_of(response: Mapping[str, Any]) -> str:
    """The code in an answer of AWS, "Unknown" when there is none."""
    return str(response.get("Error", {}).get("Code") or "Unknown").rpartition("#")[2]


def translate(error: BaseException, doing: str, special: Mapping[str, Verdict] | None = None) -> DyncdcError:
    """The error to raise for a failed call. ``special`` outranks the common table: what a code means at this call."""
    code = error_code(error)
    if isinstance(error, boto.ClientError):
        kind, hint = (special or {}).get(code) or VERDICTS.get(code, (RetryableError, ""))
        if code == "InvalidSignatureException" and _first_line(error).startswith(CLOCK_TEXTS):
            kind, hint = RetryableError, _CLOCK
        text = _first_line(error) if code in SAFE_MESSAGES else ""
        return kind(f"{doing}: {code}{f' ({text})' if text else ''}", hint=hint)
    if isinstance(error, _CREDENTIALS_MISSING):
        return CredentialsError(f"{doing}: no usable AWS credentials ({code})", hint=_IDENTITY)
    if isinstance(error, _CREDENTIALS_NOT_GIVEN):
        return RetryableError(f"{doing}: AWS credentials are not to be had now ({code})", hint=_IDENTITY)
    if isinstance(error, MISCONFIGURED):
        return ConfigError(f"{doing}: {code}: {str(error).splitlines()[0][:MESSAGE_MAX_CHARS]}", hint="check [aws]")
    if isinstance(error, _UNREADABLE):
        return RetryableError(f"{doing}: the answer cannot be understood ({code})")
    if isinstance(error, TimeoutError | boto.ReadTimeoutError | boto.ConnectTimeoutError):
        return RetryableError(f"{doing}: timed out")
    if isinstance(error, boto.SSLError | aiohttp.ClientSSLError):
        return RetryableError(
            f"{doing}: the certificate of the endpoint is not trusted ({code})",
            hint="name the CA's certificate in AWS_CA_BUNDLE, or see who answers in place of AWS",
        )
    return RetryableError(f"{doing}: {code}", hint="check aws.region, aws.endpoint_url and the network")


def _first_line(error: boto.ClientError) -> str:
    text = str(error.response.get("Error", {}).get("Message") or "")
    return " ".join(text.split())[:MESSAGE_MAX_CHARS]


@asynccontextmanager
async def aws_call(doing: str, special: Mapping[str, Verdict] | None = None) -> AsyncIterator[None]:
    """Bound the calls inside by ``CALL_TIMEOUT_SECONDS`` and translate what they raise.

    ``doing`` starts every message: gerund, object, name.
    """
    try:
        async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
            yield
    except _TRANSLATED as error:
        raise translate(error, doing, special) from error


def server_time(response: Mapping[str, Any]) -> float:
    """Seconds since the epoch by the server's clock, from the answer's Date header.

    Raises RetryableError when the header is missing or unreadable: our own clock is never used instead.
    """
    headers: Mapping[str, Any] = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(str(headers["date"])).timestamp()
    except (KeyError, ValueError, OverflowError) as error:
        raise RetryableError("reading the server's time: the answer has no usable Date header") from error
