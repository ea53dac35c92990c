"""`python -m cli` is `paywave`, for whoever has the interpreter but not the script."""

from cli.main import main

main()
