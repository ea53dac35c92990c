"""Snowflake as settings name it: who logs in, and what it is told of the lake.

Belongs here: from settings to what `snowflake_external/` takes. Does not: anything of Dagster's: the command
line reads them in the same way.
"""

from __future__ import annotations

from pydantic import SecretStr

from config.settings import Settings
from snowflake_external.deployment import Bearer, Deployment, OAuth, RestCatalog, S3Volume, SigV4
from snowflake_external.session import Login


def login_of(settings: Settings) -> Login:
    """Who logs in to Snowflake, and where. Raises MissingSetting."""
    given = settings.snowflake
    return Login(
        settings.need("snowflake", "account"),
        settings.need("snowflake", "user"),
        given.role,
        given.warehouse,
        given.private_key_file,
        _revealed(given.private_key_passphrase),
        _revealed(given.password),
        given.host,
        given.port,
        given.protocol,
    )


def deployment_of(settings: Settings) -> Deployment:
    """What Snowflake is told of the lake. Raises MissingSetting where it could not get there."""
    given = settings.snowflake
    url = given.volume_url or settings.need("catalog", "warehouse")
    catalog = RestCatalog(
        given.catalog_uri or settings.need("catalog", "uri"),
        _authentication(settings),
        given.catalog_name,
        given.catalog_api_type,
        given.catalog_source,
    )
    return Deployment(
        S3Volume(url, given.volume_role_arn, given.volume_external_id),
        catalog,
        prefix=given.prefix,
        linked=given.linked,
        refresh_s=given.refresh_s,
        credits_per_month=given.credits_per_month,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _authentication(settings: Settings) -> OAuth | SigV4 | Bearer:
    given = settings.snowflake
    if given.catalog_auth == "sigv4":
        region = settings.need("s3", "region")
        return SigV4(settings.need("snowflake", "sigv4_role_arn"), region, given.sigv4_external_id)
    if given.catalog_auth == "bearer":
        return Bearer(settings.need("snowflake", "bearer_token").get_secret_value())
    secret = settings.need("snowflake", "oauth_client_secret").get_secret_value()
    client = settings.need("snowflake", "oauth_client_id")
    return OAuth(client, secret, given.oauth_token_uri, given.oauth_scopes)
