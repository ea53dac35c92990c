"""Partners' files: profiles that say how the rows of a partner's CSV become events.

Belongs here: profiles (as data) and the mapping of rows. Does not: sending (`streaming/producer.py`).
"""

from streaming.partners.profile import Profile, find_profile, load_profiles, recognise
from streaming.partners.rows import RowMapper

__all__ = ["Profile", "RowMapper", "find_profile", "load_profiles", "recognise"]
