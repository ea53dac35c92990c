"""The lake as a resource: settings and connections, made when they are needed, by those who need them.

Belongs here: what assets, checks and sensors take from outside. Does not: what they do with it.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from pyiceberg.catalog.rest import RestCatalog

from config.settings import Settings, load_settings
from lakehouse.catalog import connect
from local.stack import require_up


class Lake(dg.ConfigurableResource[Any]):
    """A thin wrapper around `Settings`. They are loaded anew each time: a stack that restarts may move."""

    home: str | None = None

    def settings(self) -> Settings:
        """Load the settings of the home folder, or of the one that the environment names."""
        return load_settings(**({} if self.home is None else {"home": self.home}))

    def catalog(self) -> RestCatalog:
        """Connect to the catalog; raises StackDown where the embedded one is not up."""
        settings = self.settings()
        require_up(settings)
        return connect(settings.catalog_properties())

    def properties(self) -> dict[str, str]:
        """Properties for readers that connect by themselves. Not for logs."""
        return self.settings().catalog_properties()

    def snapshots(self, names: Iterable[str]) -> dict[str, int]:
        """Tell the snapshot id that main of each of these tables is at now; none where it has no snapshot."""
        catalog = self.catalog()
        found = {name: catalog.load_table(name).metadata.current_snapshot_id for name in names}
        return {name: snapshot_id for name, snapshot_id in found.items() if snapshot_id is not None}
