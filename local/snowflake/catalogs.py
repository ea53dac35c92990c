"""Connections to Iceberg REST catalogs, as catalog integrations describe them.

Belongs here: address, credentials, time limits, and saying a failure as Snowflake does. Does not: what is
asked of a catalog (`refresh.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pyiceberg.catalog.rest import RestCatalog
from snowflake.connector.errors import ProgrammingError

from local.snowflake import answers
from local.snowflake.engine import Engine
from local.snowflake.registry import Entry

_TIMEOUT_S = (5, 30)


class Catalogs:
    """One connection per integration, made anew when its address or our settings change."""

    def __init__(self, engine: Engine, settings: Callable[[], Mapping[str, str]]) -> None:
        self._engine, self._settings = engine, settings
        self._connected: dict[str, tuple[dict[str, str], RestCatalog]] = {}

    def connect(self, integration: Entry) -> RestCatalog:
        """Connect to the catalog of an integration; raises what Snowflake would say if that fails."""
        if not integration.options["ENABLED"]:
            raise answers.invalid(f"Integration {integration.full_name} is not enabled.")
        properties = _as_properties(integration, self._settings())
        if self._connected.get(integration.full_name, ({}, None))[0] != properties:
            catalog = RestCatalog(integration.full_name, **properties)
            session = catalog._session
            session.request = functools.partial(session.request, timeout=_TIMEOUT_S)  # type: ignore[method-assign]
            self._connected[integration.full_name] = (properties, catalog)
            self._engine.tell_store(properties)
        return self._connected[integration.full_name][1]

    def verify(self, integration: Entry) -> None:
        """Raise what Snowflake would say if the catalog of an integration does not answer."""
        with said_as_snowflake(integration.full_name):
            self.connect(integration).list_namespaces()


@contextmanager
def said_as_snowflake(integration: str) -> Iterator[None]:
    """Whatever pyiceberg and its HTTP client raise becomes the error of an integration."""
    try:
        yield
    except ProgrammingError:
        raise
    except Exception as error:
        raise answers.unreachable(integration, short(error)) from None


def _as_properties(integration: Entry, settings: Mapping[str, str]) -> dict[str, str]:
    """The integration's own address and credentials, and the object store that the settings know."""
    rest, login = integration.options["REST_CONFIG"], integration.options["REST_AUTHENTICATION"]
    found = {key: value for key, value in settings.items() if key.startswith(("s3.", "rest."))}
    found["uri"] = rest["CATALOG_URI"]
    if "CATALOG_NAME" in rest:
        found["warehouse"] = rest["CATALOG_NAME"]
    if login["TYPE"] == "BEARER":
        found["token"] = login["BEARER_TOKEN"]
    if login["TYPE"] == "OAUTH":
        found["credential"] = f"{login['OAUTH_CLIENT_ID']}:{login['OAUTH_CLIENT_SECRET']}"
        found["scope"] = " ".join(login["OAUTH_ALLOWED_SCOPES"])
        own = rest["CATALOG_URI"].rstrip("/") + "/v1/oauth/tokens"
        found["oauth2-server-uri"] = login.get("OAUTH_TOKEN_URI", own)
    return found


def short(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
