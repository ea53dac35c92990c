"""What a good event is: the contract and its rules. Pure Python, no I/O, imports nothing of ours."""
