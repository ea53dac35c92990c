"""Partners as code: the registry of who may send, and profiles of how rows of a CSV become events.

Belongs here: both (as data), their checks, the mapping of rows. Does not: sending (`streaming/producer.py`).
"""

from streaming.partners.profile import Profile, find_profile, load_profiles, recognise
from streaming.partners.rows import RowMapper

__all__ = ["Profile", "RowMapper", "find_profile", "load_profiles", "recognise"]
