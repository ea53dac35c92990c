"""Settings and profiles: where things are and how to reach them. Imports nothing of ours."""
