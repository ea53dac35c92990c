"""Replay: folding again from raw, to prove the curated tables (`verify`) or to put them right (`apply`)."""
