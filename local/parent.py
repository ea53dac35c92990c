"""A process that ends with the one that started it, however that one ended.

Belongs here: watching. Does not: who has to end with whom.
"""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_SECONDS = 0.5
# Long enough to stop what can be stopped at once; what finishes a piece of work first is not waited for.
GRACE_SECONDS = 5.0


def end_with(parent: int, grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask this process to end once `parent`, which started it, is gone; kill it if it has not in time.

    The system's own way (PR_SET_PDEATHSIG) will not do where a thread of the parent did the starting: it
    goes by that thread's end.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        if grace_seconds:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
