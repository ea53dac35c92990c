"""The servers of the embedded stack, one module each: what to run, with which files, and when it is ready."""
