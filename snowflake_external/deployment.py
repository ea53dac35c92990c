"""What a deployment decides: where the files are, which catalog knows them, how things are called.

Belongs here: the typed definitions of volume and catalog integration. Does not: reading settings (`cli/`),
the objects that follow from it (`estate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from snowflake_external.sql import Group, Secret, Value, Word


@dataclass(frozen=True)
class S3Volume:
    """Where the tables' files are, and the role that Snowflake reads them by."""

    base_url: str
    role_arn: str | None = None
    external_id: str | None = None

    def properties(self) -> tuple[tuple[str, Value], ...]:
        """Render the storage location; nothing is ever written through it."""
        given = (("STORAGE_AWS_ROLE_ARN", self.role_arn), ("STORAGE_AWS_EXTERNAL_ID", self.external_id))
        location = Group(
            (
                ("NAME", "lake"),
                ("STORAGE_PROVIDER", "S3"),
                ("STORAGE_BASE_URL", self.base_url),
                *((name, value) for name, value in given if value is not None),
            )
        )
        return ("STORAGE_LOCATIONS", (location,)), ("ALLOW_WRITES", False)


@dataclass(frozen=True)
class OAuth:
    """A client that asks the catalog's token endpoint for a token."""

    client_id: str
    client_secret: str = field(repr=False)
    token_uri: str | None = None
    scopes: tuple[str, ...] = ("PRINCIPAL_ROLE:ALL",)

    def properties(self) -> Group:
        uri: tuple[tuple[str, Value], ...] = (("OAUTH_TOKEN_URI", self.token_uri),) if self.token_uri else ()
        return Group(
            (
                ("TYPE", Word("OAUTH")),
                *uri,
                ("OAUTH_CLIENT_ID", self.client_id),
                ("OAUTH_CLIENT_SECRET", Secret(self.client_secret)),
                ("OAUTH_ALLOWED_SCOPES", self.scopes),
            )
        )


@dataclass(frozen=True)
class SigV4:
    """Requests that AWS signs, by a role that Snowflake takes on: Glue's REST endpoint, an API gateway."""

    role_arn: str
    region: str
    external_id: str | None = None

    def properties(self) -> Group:
        given = (("SIGV4_SIGNING_REGION", self.region), ("SIGV4_EXTERNAL_ID", self.external_id))
        return Group(
            (
                ("TYPE", Word("SIGV4")),
                ("SIGV4_IAM_ROLE", self.role_arn),
                *((name, value) for name, value in given if value is not None),
            )
        )


@dataclass(frozen=True)
class Bearer:
    """A token that stays the same."""

    token: str = field(repr=False)

    def properties(self) -> Group:
        return Group((("TYPE", Word("BEARER")), ("BEARER_TOKEN", Secret(self.token))))


@dataclass(frozen=True)
class RestCatalog:
    """An Iceberg REST catalog. `api_type` AWS_GLUE is Glue's; `source` POLARIS is Open Catalog."""

    uri: str
    authentication: OAuth | SigV4 | Bearer
    catalog_name: str | None = None
    api_type: str | None = None
    source: str = "ICEBERG_REST"

    def properties(self, refresh_s: int) -> tuple[tuple[str, Value], ...]:
        config: list[tuple[str, Value]] = [("CATALOG_URI", self.uri)]
        config += [("CATALOG_API_TYPE", Word(self.api_type))] if self.api_type else []
        config += [("CATALOG_NAME", self.catalog_name)] if self.catalog_name else []
        return (
            ("CATALOG_SOURCE", Word(self.source)),
            ("TABLE_FORMAT", Word("ICEBERG")),
            ("REST_CONFIG", Group(tuple(config))),
            ("REST_AUTHENTICATION", self.authentication.properties()),
            ("ENABLED", True),
            ("REFRESH_INTERVAL_SECONDS", refresh_s),
        )


@dataclass(frozen=True)
class Deployment:
    """One place in Snowflake.

    Args:
        prefix: begins the name of every object of the account: `PAYWAVE`, in a scratch run something else. Of
            two in one account, none may begin with the other and an underscore.
        linked: one database that follows the catalog by itself, rather than a table each.
        refresh_s: how often Snowflake asks the catalog for news, in seconds: 30 at the least.
        credits_per_month: what readers may use; their warehouse is suspended then.
    """

    volume: S3Volume
    catalog: RestCatalog
    prefix: str = "PAYWAVE"
    linked: bool = False
    refresh_s: int = 30
    warehouse_size: str = "XSMALL"
    auto_suspend_s: int = 60
    credits_per_month: int = 100
