"""The kinds of object: what each takes, how SHOW lists it. Belongs here: this table.

Does not: what is done with an object (`statements.py`), which there are (`registry.py`).

A column of SHOW is filled from the option of its name; `column=OPTION` names another, `column:text` is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from local.snowflake.words import Shape

_BOOL, _INT, _TEXT = bool, int, str
_COMMENT: dict[str, Shape] = {"COMMENT": _TEXT}
_IN_SCHEMA = "created_on name database_name schema_name"
_LOCATION = {
    "NAME": _TEXT,
    "STORAGE_PROVIDER": ("S3", "S3GOV", "GCS", "AZURE"),
    "STORAGE_BASE_URL": _TEXT,
    "STORAGE_AWS_ROLE_ARN": _TEXT,
    "STORAGE_AWS_EXTERNAL_ID": _TEXT,
}
_REST_CONFIG = {
    "CATALOG_URI": _TEXT,
    "CATALOG_NAME": _TEXT,
    "CATALOG_API_TYPE": (
        *("PUBLIC", "PRIVATE", "AWS_API_GATEWAY", "AWS_PRIVATE_API_GATEWAY"),
        *("AWS_GLUE", "AWS_PRIVATE_GLUE"),
    ),
    "ACCESS_DELEGATION_MODE": ("VENDED_CREDENTIALS", "EXTERNAL_VOLUME_CREDENTIALS"),
}
_REST_AUTHENTICATION = {
    "TYPE": ("OAUTH", "BEARER", "SIGV4"),
    "OAUTH_TOKEN_URI": _TEXT,
    "OAUTH_CLIENT_ID": _TEXT,
    "OAUTH_CLIENT_SECRET": _TEXT,
    "OAUTH_ALLOWED_SCOPES": list,
    "BEARER_TOKEN": _TEXT,
    "SIGV4_IAM_ROLE": _TEXT,
    "SIGV4_SIGNING_REGION": _TEXT,
    "SIGV4_EXTERNAL_ID": _TEXT,
}
_LINKED_CATALOG = {
    "CATALOG": _TEXT,
    "ALLOWED_NAMESPACES": list,
    "ALLOWED_WRITE_OPERATIONS": ("NONE", "ALL"),
    "SYNC_INTERVAL_SECONDS": _INT,
}
SECRETS = {"OAUTH_CLIENT_SECRET": "OAUTH", "BEARER_TOKEN": "BEARER"}  # each of one TYPE
_SIZES = ("XSMALL", "X-SMALL", "SMALL", "MEDIUM", "LARGE", "XLARGE", "XXLARGE", "XXXLARGE")


@dataclass(frozen=True)
class Kind:
    """One kind: how many parts its full name has, its keys (those that ALTER may not set, those it needs)."""

    name: str
    parts: int
    columns: str
    options: Mapping[str, Shape] = field(default_factory=lambda: _COMMENT)
    fixed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    privileges: str = ""
    plural: str = ""

    @property
    def shown_as(self) -> str:
        """The word of SHOW."""
        return self.plural or f"{self.name}S"


_ALL = (
    Kind(
        "EXTERNAL VOLUME",
        1,
        "name allow_writes comment",
        {"STORAGE_LOCATIONS": [_LOCATION], "ALLOW_WRITES": _BOOL, **_COMMENT},
        fixed=("STORAGE_LOCATIONS",),
        required=("STORAGE_LOCATIONS",),
        defaults={"ALLOW_WRITES": True},
        privileges="USAGE",
    ),
    Kind(
        "CATALOG INTEGRATION",
        1,
        "name type:CATALOG category:CATALOG enabled comment created_on",
        {
            "CATALOG_SOURCE": ("ICEBERG_REST", "POLARIS"),
            "TABLE_FORMAT": ("ICEBERG",),
            "CATALOG_NAMESPACE": _TEXT,
            "REST_CONFIG": _REST_CONFIG,
            "REST_AUTHENTICATION": _REST_AUTHENTICATION,
            "ENABLED": _BOOL,
            "REFRESH_INTERVAL_SECONDS": _INT,
            **_COMMENT,
        },
        fixed=("CATALOG_SOURCE", "TABLE_FORMAT", "CATALOG_NAMESPACE", "REST_CONFIG", "ENABLED"),
        required=("CATALOG_SOURCE", "TABLE_FORMAT", "REST_CONFIG", "REST_AUTHENTICATION", "ENABLED"),
        defaults={"REFRESH_INTERVAL_SECONDS": 30},
        privileges="USAGE",
    ),
    Kind(
        "ICEBERG TABLE",
        3,
        f"{_IN_SCHEMA} owner external_volume_name=EXTERNAL_VOLUME catalog_name=CATALOG "
        "iceberg_table_type:UNMANAGED catalog_table_name catalog_namespace base_location "
        "can_write_metadata:N comment owner_role_type catalog_sync_name auto_refresh_status",
        {
            "EXTERNAL_VOLUME": _TEXT,
            "CATALOG": _TEXT,
            "CATALOG_TABLE_NAME": _TEXT,
            "CATALOG_NAMESPACE": _TEXT,
            "REPLACE_INVALID_CHARACTERS": _BOOL,
            "AUTO_REFRESH": _BOOL,
            **_COMMENT,
        },
        fixed=("EXTERNAL_VOLUME", "CATALOG", "CATALOG_TABLE_NAME", "CATALOG_NAMESPACE"),
        required=("EXTERNAL_VOLUME", "CATALOG", "CATALOG_TABLE_NAME"),
        defaults={"AUTO_REFRESH": False},
        privileges="SELECT REFERENCES",
    ),
    Kind(
        "DATABASE",
        1,
        "created_on name is_default:N is_current:N origin owner comment options retention_time:1 "
        "kind budget owner_role_type",
        {
            "LINKED_CATALOG": _LINKED_CATALOG,
            "EXTERNAL_VOLUME": _TEXT,
            "CATALOG_CASE_SENSITIVITY": ("CASE_SENSITIVE", "CASE_INSENSITIVE"),
            **_COMMENT,
        },
        fixed=("LINKED_CATALOG", "EXTERNAL_VOLUME", "CATALOG_CASE_SENSITIVITY"),
        privileges="USAGE MONITOR MODIFY CREATE_SCHEMA CREATE_DATABASE_ROLE",
    ),
    Kind(
        "SCHEMA",
        2,
        "created_on name is_default:N is_current:N database_name owner comment options retention_time:1 "
        "owner_role_type budget",
        privileges="USAGE MONITOR MODIFY CREATE_VIEW CREATE_ICEBERG_TABLE CREATE_TAG "
        "CREATE_MASKING_POLICY CREATE_ROW_ACCESS_POLICY",
    ),
    Kind(
        "VIEW",
        3,
        "created_on name reserved database_name schema_name owner comment text is_secure "
        "is_materialized:false owner_role_type change_tracking:OFF",
        privileges="SELECT REFERENCES",
    ),
    Kind(
        "ROLE",
        1,
        "created_on name is_default:N is_current:N is_inherited:N owner comment",
        privileges="USAGE",
    ),
    Kind(
        "USER",
        1,
        "name created_on login_name=NAME_ display_name=NAME_ disabled comment default_warehouse "
        "default_role owner has_rsa_public_key",
        {
            "RSA_PUBLIC_KEY": _TEXT,
            "DEFAULT_ROLE": _TEXT,
            "DEFAULT_WAREHOUSE": _TEXT,
            "DISABLED": _BOOL,
            **_COMMENT,
        },
        defaults={"DISABLED": False},
        privileges="MONITOR",
    ),
    Kind(
        "WAREHOUSE",
        1,
        "name state=STATE_ type:STANDARD size=WAREHOUSE_SIZE is_default:N is_current:N auto_suspend "
        "auto_resume created_on owner comment resource_monitor owner_role_type",
        {
            "WAREHOUSE_SIZE": _SIZES,
            "AUTO_SUSPEND": _INT,
            "AUTO_RESUME": _BOOL,
            "INITIALLY_SUSPENDED": _BOOL,
            "RESOURCE_MONITOR": _TEXT,
            "STATEMENT_TIMEOUT_IN_SECONDS": _INT,
            **_COMMENT,
        },
        fixed=("INITIALLY_SUSPENDED",),
        defaults={"WAREHOUSE_SIZE": "XSMALL", "AUTO_SUSPEND": 600, "AUTO_RESUME": True, "STATE_": "STARTED"},
        privileges="USAGE OPERATE MONITOR MODIFY",
    ),
    Kind(
        "RESOURCE MONITOR",
        1,
        "name credit_quota used_credits remaining_credits=CREDIT_QUOTA level=LEVEL_ frequency "
        "start_time=START_TIMESTAMP end_time=END_TIMESTAMP notify_at=NOTIFY suspend_at=SUSPEND "
        "suspend_immediately_at=SUSPEND_IMMEDIATE created_on owner comment",
        {
            "CREDIT_QUOTA": _INT,
            "FREQUENCY": ("MONTHLY", "DAILY", "WEEKLY", "YEARLY", "NEVER"),
            "START_TIMESTAMP": _TEXT,
            "END_TIMESTAMP": _TEXT,
        },
        privileges="MONITOR MODIFY",
    ),
    Kind(
        "TAG",
        3,
        f"{_IN_SCHEMA} owner comment allowed_values=ALLOWED_VALUES owner_role_type",
        privileges="APPLY",
    ),
    Kind(
        "MASKING POLICY",
        3,
        f"{_IN_SCHEMA} kind:MASKING_POLICY owner comment owner_role_type options",
        privileges="APPLY",
        plural="MASKING POLICIES",
    ),
    Kind(
        "ROW ACCESS POLICY",
        3,
        f"{_IN_SCHEMA} kind:ROW_ACCESS_POLICY owner comment owner_role_type options",
        privileges="APPLY",
        plural="ROW ACCESS POLICIES",
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
SHOWN = {kind.shown_as: kind for kind in _ALL}
# Other words for a kind, where it exists already. CREATE TABLE is another statement.
ALIASES = {name: name for name in KINDS} | {"TABLE": "ICEBERG TABLE", "INTEGRATION": "CATALOG INTEGRATION"}
SYSTEM_ROLES = ("ACCOUNTADMIN", "SYSADMIN", "SECURITYADMIN", "USERADMIN", "PUBLIC")
ACCOUNT_PRIVILEGES = (
    *("CREATE DATABASE", "CREATE ROLE", "CREATE WAREHOUSE", "CREATE EXTERNAL VOLUME", "CREATE INTEGRATION"),
    *("CREATE USER", "MANAGE GRANTS", "MONITOR USAGE", "APPLY TAG", "APPLY MASKING POLICY"),
    "APPLY ROW ACCESS POLICY",
)
