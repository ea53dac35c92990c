"""The code location that `workspace.yaml` names. Nothing else belongs here."""

from assets.definitions import build_defs

defs = build_defs()
