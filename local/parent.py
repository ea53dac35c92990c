"""A process that ends with the one that started it, however that one ended.

Belongs here: watching. Does not: who has to end with whom.
"""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_SECONDS = 0.5


def end_with(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Send this process a signal once `parent`, which started it, is gone.

    The system's own way (PR_SET_PDEATHSIG) will not do where a thread of the parent did the starting: it
    goes by that thread's end.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), how)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
