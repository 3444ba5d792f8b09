"""Live: what changes, as it changes, to as many as look."""
