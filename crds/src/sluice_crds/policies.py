"""DatabaseAccessPolicy: who may do what with the databases of a namespace."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sluice_crds.base import (
    LIST_ITEMS_MAX,
    ApiModel,
    ClassReference,
    Conditions,
    Labels,
    NamespaceName,
    ObjectMeta,
    ObjectName,
    Sidecars,
    TablePattern,
    rules,
)
from sluice_crds.hours import check_time_zone, parse_hours
from sluice_crds.masks import EXPRESSION_CHARS_MAX, MaskField

ACTIONS = (
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "copyIn",
    "copyOut",
    "call",
    "explain",
    "ddl.create",
    "ddl.alter",
    "ddl.drop",
    "ddl.grant",
    "ddl.other",
    "ddl.*",
    "listen",
    "session",
)
"""The closed list of actions; ``ddl.*`` covers its kinds."""

Action = Literal[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "copyIn",
    "copyOut",
    "call",
    "explain",
    "ddl.create",
    "ddl.alter",
    "ddl.drop",
    "ddl.grant",
    "ddl.other",
    "ddl.*",
    "listen",
    "session",
]

Name = Annotated[str, Field(min_length=1, max_length=253)]


def _parsed_hours(text: str) -> str:
    parse_hours(text)
    return text


class DatabaseSelector(ApiModel):
    """Which classifications of the same namespace. Both fields must match; omitted matches any."""

    names: (
        Annotated[tuple[ObjectName, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Names of DataClassifications."""
    match_labels: Labels | None = None
    """Labels that the DataClassification must have, all of them."""


class WorkloadSelector(ApiModel):
    """Which pods. All fields must match; an omitted one matches any."""

    namespaces: (
        Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """The pod's namespace is one of these."""
    service_accounts: (
        Annotated[tuple[ObjectName, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """The pod's service account is one of these."""
    pod_labels: Labels | None = None
    """Labels that the pod must have, all of them."""


class ActorSelector(ApiModel):
    """Which verified actors. An allow needs a verified actor; a deny also holds without one."""

    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None = None
    """The actor's name is one of these."""
    groups: Annotated[tuple[Name, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None = (
        None
    )
    """The actor is in one of these groups."""
    kinds: (
        Annotated[tuple[Literal["human", "agent"], ...], Field(min_length=1, max_length=2)] | None
    ) = None
    """What the actor is."""


class RoleSelector(ApiModel):
    """Which database roles."""

    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None = None
    """The role that logged in is one of these."""


class Subject(ApiModel):
    """One kind of identity. All given parts must match."""

    workload: WorkloadSelector | None = None
    """Which pods."""
    actor: ActorSelector | None = None
    """Which people or AI agents."""
    role: RoleSelector | None = None
    """Which database roles."""


class RowsPerHour(ApiModel):
    """A budget of rows for any hour."""

    max: Annotated[int, Field(ge=0)]
    """Rows in one hour."""
    per: Literal["pod"] = "pod"
    """Whose rows are counted together."""


class RuleLimits(ApiModel):
    """Bounds on what a statement that this rule allows may do. The minimum of all rules holds."""

    rows_per_statement: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Rows sent to the client; past it the statement is cancelled with an error."""
    statement_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Seconds a statement may run."""
    rows_per_hour: RowsPerHour | None = None
    """A budget of rows for any hour."""


class When(ApiModel):
    """A time window. A timed allow needs a trusted clock; a timed deny holds without one."""

    hours: Annotated[str, Field(max_length=64), AfterValidator(_parsed_hours)]
    """[days ]HH:MM-HH:MM, for example Mon-Fri 08:00-18:00. An end before the start is on the next day."""
    time_zone: Annotated[
        str, Field(min_length=1, max_length=64), AfterValidator(check_time_zone)
    ] = "UTC"
    """IANA name of the time zone."""


class Rule(ApiModel):
    """Allows or denies what all of its fields match; an omitted field matches any."""

    name: Annotated[
        str, Field(max_length=63, pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$")
    ]
    """Named in errors and audit events; unique within the policy."""
    effect: Literal["allow", "deny", "requireApproval"]
    """deny wins over everything else."""
    actions: Annotated[tuple[Action, ...], Field(min_length=1, max_length=32)] | None = None
    """What is done."""
    tables: (
        Annotated[tuple[TablePattern, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Tables, as schema.table with *."""
    classes: (
        Annotated[tuple[ClassReference, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Which classified columns it speaks of; unclassified ones come with the table."""
    limits: RuleLimits | None = None
    """Bounds on what it allows."""
    when: When | None = None
    """The hours in which the rule is there; masks and row filters hold at all hours."""

    @model_validator(mode="after")
    def _limits_need_allow(self) -> Rule:
        if self.limits is not None and self.effect != "allow":
            raise ValueError("limits bound what a rule allows; this rule does not allow")
        return self


class ClassMask(ApiModel):
    """How columns of a class are shown."""

    class_: Annotated[ClassReference, Field(alias="class")]
    """A class; covers everything below it."""
    mask: MaskField
    """null, redact, hash, year, email, none, {first: n}, {last: n}, {partial: {first: n, last: n}},
    {bucket: size} or {expression: sql, rank: email | expression}."""


class RowFilter(ApiModel):
    """Rows of matching tables for which the expression is not true do not exist for the identity."""

    table: TablePattern
    """schema.table with *."""
    where: Annotated[str, Field(min_length=1, max_length=EXPRESSION_CHARS_MAX)] | None = None
    """One scalar SQL expression over the row's own columns."""
    exempt: Literal[True] | None = None
    """This view filters itself: this policy's filters on the tables below do not follow it."""

    @model_validator(mode="after")
    def _exactly_one(self) -> RowFilter:
        if (self.where is None) == (self.exempt is None):
            raise ValueError("give exactly one of where and exempt")
        return self


class BulkExport(ApiModel):
    """What counts as taking too much at once."""

    rows: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Rows from which a result is a bulk export."""
    effect: Literal["deny", "limit"]
    """Either way the result ends there, with an error that names the policy."""


class Guardrails(ApiModel):
    """Statements that are refused whatever the rules allow."""

    unfiltered_writes: Literal["allow", "deny"] = "allow"
    """UPDATE and DELETE whose WHERE is absent or constant."""
    drop: Literal["allow", "deny"] = "allow"
    """DROP of anything."""
    truncate: Literal["allow", "deny"] = "allow"
    """TRUNCATE."""
    bulk_export: BulkExport | None = None
    """Results above a number of rows."""


class WriteOracles(ApiModel):
    """Writes whose success or failure tells of hidden values."""

    keys: Literal["accept", "deny"] = "accept"
    """Unique, exclusion and foreign keys that tell whether a hidden value is taken."""
    row_values: Literal["accept", "deny"] = "deny"
    """Updates judged by constraints or indexes that also read hidden columns of the row."""
    key_violations_per_hour: Annotated[int, Field(ge=1)] | None = None
    """Violations after which the identity's writes are refused."""


class DatabaseAccessPolicySpec(ApiModel):
    """Whom it selects, what they may do, and what they are shown."""

    mode: Literal["enforce", "warn", "audit"] = "enforce"
    """warn and audit add nothing to the real decision; they are recorded, warn also tells the client."""
    databases: DatabaseSelector | None = None
    """Which databases of this namespace; omitted: all."""
    subjects: (
        Annotated[tuple[Subject, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Whom the policy selects: one of these; omitted: everybody."""
    rules: (
        Annotated[
            tuple[Rule, ...],
            Field(
                min_length=1,
                max_length=LIST_ITEMS_MAX,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            ),
        ]
        | None
    ) = None
    """What they may do. No rule allows: denied. deny wins."""
    masks: (
        Annotated[tuple[ClassMask, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """How classes are shown; the most specific class wins, a class that no mask names is redacted."""
    row_filters: (
        Annotated[tuple[RowFilter, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Which rows exist; all filters hold."""
    guardrails: Guardrails | None = None
    """Statements that are refused whatever the rules allow."""
    write_oracles: WriteOracles | None = None
    """Writes whose success or failure tells of hidden values."""
    copy_in: Literal["deny", "unfiltered"] | None = None
    """COPY FROM into a table with a row filter."""

    @model_validator(mode="after")
    def _unique_rule_names(self) -> DatabaseAccessPolicySpec:
        names = [rule.name for rule in self.rules or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are called {twice[0]!r}; names of rules are unique")
        return self


class DatabaseAccessPolicyStatus(ApiModel):
    """Written by the operator only."""

    conditions: Conditions = ()
    """Ready, Compiled, Enforced."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation that this status speaks of."""
    sidecars: Sidecars | None = None
    """Governed pods by the policy that they report to be in force."""


class DatabaseAccessPolicy(ApiModel):
    """Who may do what. Lives in the namespace of the classification that it names."""

    api_version: Literal["sluice.dev/v1alpha1"]
    kind: Literal["DatabaseAccessPolicy"]
    metadata: ObjectMeta
    spec: DatabaseAccessPolicySpec
    status: DatabaseAccessPolicyStatus | None = None


CEL = rules(
    (
        "!has(self.spec.rowFilters) || self.spec.rowFilters.all(f, has(f.where) != has(f.exempt))",
        "a row filter has exactly one of where and exempt",
    ),
    (
        "!has(self.spec.rules) || self.spec.rules.all(r, !has(r.limits) || r.effect == 'allow')",
        "limits bound what a rule allows; a rule with limits has effect allow",
    ),
)
