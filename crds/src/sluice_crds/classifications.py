"""DataClassification: one database, where it is, what is in it, who may come."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from sluice_crds.base import (
    COLUMN_ENTRIES_MAX,
    LIST_ITEMS_MAX,
    ApiModel,
    ClassName,
    ColumnPattern,
    Conditions,
    NamespaceName,
    ObjectMeta,
    SecretKeyReference,
    SecretReference,
    Sidecars,
    TablePattern,
    rules,
)

Host = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$"
        r"|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$",
    ),
]
"""A DNS name or an IP address."""

Function = Annotated[str, Field(max_length=512, pattern=r"^[^.()\s][^.()]*\.[^.()]+\([^()]*\)$")]
"""``schema.name(type, type)``, as ``pg_proc`` and ``format_type`` spell them."""

Channel = Annotated[str, Field(min_length=1, max_length=63)]


VERIFYING_MODES: Final = ("verify-ca", "verify-full")
"""Modes of TLS that verify the server's certificate, and so need authorities."""
TLS_NEEDS_CA: Final = "tls mode verify-ca and verify-full need caSecretRef"


class UpstreamTls(ApiModel):
    """TLS between the sidecar and the database. Each namespace whose pods come to it has the Secrets."""

    mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
    """As libpq's sslmode. verify-full checks authority and name; require without caSecretRef checks nothing."""
    ca_secret_ref: SecretKeyReference | None = None
    """Certificates (PEM) of the authorities that may sign the server's certificate."""
    client_cert_secret_ref: SecretReference | None = None
    """A kubernetes.io/tls Secret that the sidecar shows to the database."""


class Brokered(ApiModel):
    """Only the sidecar holds the database's credential."""

    secret_ref: SecretReference
    """Secret with the keys user and password."""


class Database(ApiModel):
    """Where the database is and how it is reached."""

    hosts: Annotated[tuple[Host, ...], Field(min_length=1, max_length=64)]
    """Every name it goes by. The first is canonical; all DNS forms of a Service are implied."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """TCP port."""
    name: Annotated[str, Field(min_length=1, max_length=63)]
    """The database's name on its server."""
    tls: UpstreamTls | None = None
    """TLS towards the database; omitted: prefer, which uses it where the server offers it."""
    client_tls_secret_ref: Annotated[SecretReference | None, Field(alias="clientTLSSecretRef")] = (
        None
    )
    """A kubernetes.io/tls Secret that the sidecar shows to clients that ask for TLS; omitted: they get none."""
    catalog_secret_ref: SecretReference | None = None
    """Secret of type sluice.dev/catalog: user, password, and the only host, port and CA they may be sent to."""
    pooler: Literal["none", "session"] = "none"
    """A connection pooler between the sidecar and the database. A transaction pooler is refused."""
    brokered: Brokered | None = None
    """When given, the application's own credential is worthless on the database."""

    @field_validator("pooler", mode="before")
    @classmethod
    def _no_transaction_pooler(cls, value: object) -> object:
        if value in ("transaction", "statement"):
            raise ValueError(
                f"a {value} pooler behind the sidecar is refused: settings of other clients would "
                "be in force; use session pooling, or put the pooler before the sidecar"
            )
        return value


class ColumnEntry(ApiModel):
    """The class of the columns that two patterns match. The most specific entry wins."""

    table: TablePattern
    """schema.table, each part a name or a pattern with *."""
    column: ColumnPattern
    """A column's name, or a pattern with *."""
    class_: Annotated[ClassName, Field(alias="class")]
    """A dotted class, or public: reviewed and harmless."""


class Discovery(ApiModel):
    """Looking for personal data in columns that nobody classified."""

    mode: Literal["off", "suggest", "enforce"] = "off"
    """suggest writes findings into the status; enforce also masks them at once."""
    schedule: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A cron expression or @hourly, @daily, @weekly."""
    sample_rows: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Rows read of each table."""
    sampler_secret_ref: SecretReference | None = None
    """Secret with the credential for sampling."""


class Trusted(ApiModel):
    """What restricted sessions may use although it is not on the built-in allow-lists."""

    functions: (
        Annotated[tuple[Function, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Functions known to neither read governed tables nor run SQL text: schema.name(type, type)."""
    channels: (
        Annotated[tuple[Channel, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Channels of LISTEN whose payloads carry no classified value."""


class AuditSettings(ApiModel):
    """What audit events of this database carry."""

    literals: bool = False
    """Whether the literals of statements are recorded."""


class DataClassificationSpec(ApiModel):
    """The database, its columns' classes, and who may come."""

    database: Database
    """Where the database is and how it is reached."""
    allowed_namespaces: (
        Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=LIST_ITEMS_MAX)] | None
    ) = None
    """Namespaces, besides its own, whose workloads may come."""
    enforcement: Literal["enforce", "observe"] = "enforce"
    """observe: nothing is changed or denied, everything is recorded with what would have happened."""
    columns: (
        Annotated[tuple[ColumnEntry, ...], Field(min_length=1, max_length=COLUMN_ENTRIES_MAX)]
        | None
    ) = None
    """What is in it. The most specific entry wins; public = reviewed and harmless."""
    unreviewed_columns: Literal["mask", "allow"] = "mask"
    """What holds for a column that no entry matches."""
    discovery: Discovery | None = None
    """Looking for personal data in columns that nobody classified."""
    trusted: Trusted | None = None
    """What restricted sessions may use although it is not on the built-in allow-lists."""
    audit: AuditSettings | None = None
    """What audit events of this database carry."""


class ColumnCounts(ApiModel):
    """How far the review of the database's columns is."""

    classified: Annotated[int, Field(ge=0)] = 0
    """Columns with a class."""
    suggested: Annotated[int, Field(ge=0)] = 0
    """Columns for which discovery suggests a class."""
    unreviewed: Annotated[int, Field(ge=0)] = 0
    """Columns that no entry matches."""


class DataClassificationStatus(ApiModel):
    """Written by the operator only."""

    conditions: Conditions = ()
    """Ready, Compiled, Enforced, CatalogReachable, Drifted."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation that this status speaks of."""
    columns: ColumnCounts | None = None
    """How far the review of the columns is."""
    sidecars: Sidecars | None = None
    """Governed pods by the policy that they report to be in force."""


class DataClassification(ApiModel):
    """One database: where it is, what is in it, who may come. Lives in its owner's namespace."""

    api_version: Literal["sluice.dev/v1alpha1"]
    kind: Literal["DataClassification"]
    metadata: ObjectMeta
    spec: DataClassificationSpec
    status: DataClassificationStatus | None = None


CEL = rules(
    (
        (
            f"!has(self.spec.database.tls) || !(self.spec.database.tls.mode in {list(VERIFYING_MODES)})"
            " || has(self.spec.database.tls.caSecretRef)"
        ),
        TLS_NEEDS_CA,
    ),
)
