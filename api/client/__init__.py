"""The client of the HTTP API, with the names of a poster."""
