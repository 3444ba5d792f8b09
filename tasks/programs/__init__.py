"""A ready-made task that runs whatever program a job names."""

from ebbtide.tasks.programs.run import RunProgram

__all__ = ["RunProgram"]
