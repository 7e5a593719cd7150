"""The credentials that sign calls: the SDK's own chain, asked again after AWS has refused what it gave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from botocore import exceptions as boto

from .aws_errors import IDENTITY_CODES, MISCONFIGURED, error_code_of

Load = Callable[[], Awaitable[Any]]


class RenewedCredentials:
    """What a client of the SDK takes for its credentials.

    The SDK asks its chain once, when a client is made. A daemon outlives that: the instance's metadata may not have
    answered just then, and keys in a file are replaced by a person, without a restart.
    """

    method = "dyncdc"

    def __init__(self, load: Load) -> None:
        self._load = load
        self._found: Any = None
        self._loading = asyncio.Lock()

    async def get_frozen_credentials(self) -> Any:
        """What signs the next call. Raises what ``aws_errors.translate`` knows for missing or unusable credentials."""
        found = self._found
        if found is None:
            async with self._loading:
                found = self._found = self._found or await self._ask()
        try:
            return await found.get_frozen_credentials()
        except boto.ClientError:  # STS refuses those that assume the role: the next call asks for others
            self._found = None
            raise
        except RuntimeError:  # the SDK's word for credentials that were renewed and are expired all the same
            self._found = None
            raise boto.CredentialRetrievalError(provider="chain", error_msg="expired") from None

    async def get_account_id(self) -> str | None:
        """As the SDK asks for it: for the names of endpoints."""
        account: str | None = (await self.get_frozen_credentials()).account_id
        return account

    def get_deferred_property(self, _: str) -> Callable[[], Awaitable[str | None]]:
        """The same in the SDK's other way: the account's id is the only property that it asks for so."""
        return self.get_account_id

    async def _ask(self) -> Any:
        try:
            found = await self._load()
        except (*MISCONFIGURED, OSError, ValueError) as error:  # a file that someone is writing now, a missing program
            raise boto.CredentialRetrievalError(provider="chain", error_msg=type(error).__name__) from error
        if found is None:
            raise boto.NoCredentialsError()
        return found

    def look_at_answer(self, parsed: Mapping[str, Any], **_: object) -> None:
        """An ``after-call`` handler: what AWS refuses as an identity is not used again."""
        if error_code_of(parsed) in IDENTITY_CODES:
            self._found = None


def is_loopback(host: str) -> bool:
    """Whether a host's name is that of this machine to itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def of_session(
    core: Any, *, role_arn: str | None, external_id: str | None, endpoint_url: str | None
) -> RenewedCredentials:
    """The credentials of an SDK session; with ``role_arn`` those of the role, which renew themselves."""

    async def load() -> Any:
        return await core._components.get_component("credential_provider").load_credentials()

    source = RenewedCredentials(load)
    if not role_arn:
        return source

    def create_client(service: str, **kwargs: Any) -> Any:
        local = is_loopback(urlsplit(endpoint_url or "").hostname or "")
        return core.create_client(
            service, endpoint_url=endpoint_url, config=AioConfig(proxies={} if local else None), **kwargs
        )

    async def assume() -> Any:
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=create_client,
            source_credentials=RenewedCredentials(load),
            role_arn=role_arn,
            extra_args={"RoleSessionName": "dyncdc", **({"ExternalId": external_id} if external_id else {})},
        )
        return AioDeferredRefreshableCredentials(method="assume-role", refresh_using=fetcher.fetch_credentials)

    return RenewedCredentials(assume)
