"""The jobboard plug-in `sql`: a TaskFlow jobboard on a table, for any TaskFlow program."""
