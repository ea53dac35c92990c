"""A process that is to end with its parent does so, also where it takes no notice of being asked."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

# The parent starts a child that never ends by itself, and ends once that is ready. The child holds a pipe.
CHILD = """
import os, signal, sys, time
from local.parent import end_with
if {deaf}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
end_with(os.getppid(), grace_seconds={grace})
print("ready", flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys
command, pipe = [sys.executable, "-c", sys.argv[1]], int(sys.argv[2])
child = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[pipe])
assert child.stdout.readline() == b"ready\\n"
"""


@pytest.mark.parametrize(("deaf", "grace"), [(False, 600.0), (True, 0.2), (False, 0.0)])
def test_it_ends_with_its_parent(deaf: bool, grace: float) -> None:
    ours, theirs = os.pipe()
    child = CHILD.format(deaf=deaf, grace=grace)
    command = [sys.executable, "-c", PARENT, child, str(theirs)]
    subprocess.run(command, pass_fds=[theirs], check=True, timeout=60)
    os.close(theirs)
    try:
        assert select.select([ours], [], [], 60)[0], "the child still holds the pipe"
        assert os.read(ours, 1) == b""
    finally:
        os.close(ours)
