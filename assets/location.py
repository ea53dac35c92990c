"""The code location that `workspace.yaml` names. Nothing else belongs here."""

import multiprocessing

from assets.definitions import build_defs
from local.parent import end_with

# A run's process ends with its code server, and its command with it. As if killed: a run that is interrupted
# counts as one that failed by itself, while one that is lost is launched again (`storage.py`).
if (_server := multiprocessing.parent_process()) is not None and _server.pid is not None:
    end_with(_server.pid, grace_seconds=0)

defs = build_defs()
