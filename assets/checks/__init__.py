"""Asset checks: what is looked at again and again, beside what is checked before each publish.

Belongs here: findings about tables as they stand. Does not: gates (`quality/policy.py`), which run before
readers see anything.
"""
