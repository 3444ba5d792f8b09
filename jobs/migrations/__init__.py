"""Migrations of Ebbtide's own tables, run by alembic from inside the package."""
