"""Secret: a parameter that says where a secret is kept, and never is the secret itself."""

import re
from dataclasses import dataclass
from typing import Any, final

__all__ = ["FORMAT", "Secret"]

# As ECMA has them too, since it stands in the JSON schema. EBBTIDE_DATABASE holds the store's password.
_PATTERN = r"^(env:(?!EBBTIDE_)[A-Za-z_][A-Za-z0-9_]*|file:/.+)$"
_LONGEST = 4096

FORMAT = "secret-reference"
"""The format by which a JSON schema tells such a parameter from other texts."""

# Without what was given: that may be the secret itself.
_WANTED = (
    "should be a reference, env:NAME (no EBBTIDE_ name) or file:/ABSOLUTE/PATH; what was given is not shown"
)


@final
@dataclass(frozen=True)
class Secret:
    """Where a secret is kept: ``env:NAME``, a variable of the conductor, or ``file:/ABSOLUTE/PATH``.

    As the annotation of a flow's parameter it takes nothing but such a reference. The reference is
    what is stored with the job and shown. The factory is given the Secret; tasks are given, under the
    parameter's name, the plain text that the runner finds there when the job runs.

        @flow("publish")
        def publish(folder: Path, token: Secret):
            return linear_flow.Flow("publish").add(Upload())  # def execute(self, folder, token)

    Raises:
        ValueError: it is no reference. The message does not repeat what was given.
    """

    reference: str

    def __post_init__(self) -> None:
        text: object = self.reference
        fits = isinstance(text, str) and len(text) <= _LONGEST and text.isprintable()
        if not fits or not re.fullmatch(_PATTERN, self.reference):
            raise ValueError(_WANTED)

    @property
    def variable(self) -> str | None:
        """The name of the variable, if it is one."""
        return self.reference.removeprefix("env:") if self.reference.startswith("env:") else None

    @property
    def path(self) -> str | None:
        """The path of the file, if it is one."""
        return self.reference.removeprefix("file:") if self.reference.startswith("file:") else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.reference),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": FORMAT, "pattern": _PATTERN}
