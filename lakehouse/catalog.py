"""The connection to the Iceberg REST catalog.

Belongs here: how we connect, and how long we wait for an answer. Does not: what is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from pyiceberg.catalog.rest import RestCatalog

CATALOG_NAME = "lake"
CONNECT_SECONDS, ANSWER_SECONDS = 5, 60


def connect(properties: Mapping[str, str], answer_seconds: float = ANSWER_SECONDS) -> RestCatalog:
    """Connect to the REST catalog.

    pyiceberg waits for ever by default; the publish protocol needs an answer or a time-out, which it then
    resolves by reading the table. So every request gets a time limit here.
    """
    catalog = RestCatalog(CATALOG_NAME, **properties)
    session = catalog._session
    session.request = functools.partial(  # type: ignore[method-assign]
        session.request, timeout=(CONNECT_SECONDS, answer_seconds)
    )
    return catalog
