"""What one sidecar reports (``status.schema.json``), read strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluice_operator.bundles.refusals import BAD_REQUEST, Refusal

NEWEST_BUNDLE = "newest bundle: "
"""How a sidecar begins the problem that it does not take the newest bundle."""

Name = Annotated[str, Field(max_length=320)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ProblemReport(_Model):
    """Something that does not work fully in one sidecar, or in the policy of a database that it read."""

    database: Name
    message: Annotated[str, Field(max_length=1024)]
    policies: Annotated[list[Name], Field(max_length=8)] = []


class FailedReport(_Model):
    """The newest bundle, when OPA cannot activate it."""

    sequence: Annotated[int, Field(ge=1)]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    message: Annotated[str, Field(max_length=512)]


class ColumnsReport(_Model):
    """How far the review of a database's columns is."""

    classified: Annotated[int, Field(ge=0)]
    unreviewed: Annotated[int, Field(ge=0)]


class CatalogReport(_Model):
    """What was found in one catalog."""

    name: Name
    reachable: bool
    message: Annotated[str, Field(max_length=512)] = ""
    columns: ColumnsReport | None = None
    drift: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []


class DenialReport(_Model):
    """How often something was denied since the last report that was taken."""

    database: Name
    policy: Name
    rule: Annotated[str, Field(max_length=256)]
    message: Annotated[str, Field(max_length=512)]
    count: Annotated[int, Field(ge=1)]


class StatusReport(_Model):
    """``status.schema.json``."""

    contract: Literal[1]
    profile: Annotated[str, Field(max_length=512)]
    sequence: Annotated[int, Field(ge=1)] | None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    ready: bool
    problems: Annotated[list[ProblemReport], Field(max_length=32)]
    denials: Annotated[list[DenialReport], Field(max_length=32)]
    failed: FailedReport | None = None
    databases: Annotated[list[CatalogReport], Field(max_length=64)] = []

    @property
    def counted_sequence(self) -> int:
        """The sequence that the sidecar counts for; 0 without one.

        One that refuses the newest bundle is behind even where that only was signed anew: it would not follow the next
        change either, and what it works by grows too old.
        """
        refuses = any(
            not one.database and one.message.startswith(NEWEST_BUNDLE) for one in self.problems
        )
        return 0 if refuses else self.sequence or 0


def parse_status(raw: bytes) -> StatusReport:
    """Return a report.

    Raises:
        Refusal: It does not keep the contract; the sentence names the first field.
    """
    try:
        return StatusReport.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise Refusal(
            422, BAD_REQUEST, f"the status does not keep the contract: {place}: {first['msg']}"
        ) from None
