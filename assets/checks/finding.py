"""What a check found, and the words that all checks share. Belongs here: that type. Does not: any check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Finding:
    """Whether a check passed, why not in words, and figures for the page. `warns`: only a warning if not."""

    passed: bool
    text: str
    warns: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def result(self, key: dg.AssetCheckKey) -> dg.AssetCheckResult:
        """Render for Dagster."""
        return dg.AssetCheckResult(
            passed=self.passed,
            asset_key=key.asset_key,
            check_name=key.name,
            severity=dg.AssetCheckSeverity.WARN if self.warns else dg.AssetCheckSeverity.ERROR,
            description=self.text,
            metadata=dict(self.metadata),
        )
