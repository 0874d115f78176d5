"""The data plane, as Python sees it. Bytes in motion live behind this; every judgement is made in front of it."""

from os import PathLike
from typing import Final, final

__all__ = [
    "CatalogCheckRequest",
    "CatalogChecked",
    "ClientTls",
    "DataPlane",
    "Denial",
    "Edit",
    "Effects",
    "ErrorFields",
    "Plan",
    "PlanRequest",
    "PlannedStatement",
    "Scrub",
    "SessionAdmission",
    "SessionClosed",
    "SessionOpenRequest",
    "SessionState",
    "SessionStateRequest",
    "SpoolStatus",
    "TOKEN_KINDS",
    "Token",
    "UpstreamTls",
    "apply_edits",
    "template",
    "tokens",
]

TOKEN_KINDS: Final[tuple[str, ...]]
"""Names of the token kinds, by number: "ident", "quoted_ident", "unicode_ident", "keyword_or_ident" is never used
(every bare word is "ident"), "integer", "float", "string", "escape_string", "unicode_string", "national_string",
"bit_string", "hex_string", "dollar_string", "param", "operator", "punctuation", "invalid"."""

@final
class Token:
    """One token of PostgreSQL's scanner. Comments and white space are none."""

    kind: int
    """Index into TOKEN_KINDS."""
    start: int
    """Byte offset of the first byte."""
    end: int
    """Byte offset behind the last byte."""

def tokens(sql: bytes) -> list[Token]:
    """Scan a statement text as PostgreSQL does with standard_conforming_strings on and client_encoding UTF8.

    Never raises: text that cannot be scanned ends in one token of kind "invalid" that reaches to the end.
    """

def template(sql: bytes) -> bytes:
    """Return the statement with its literals blanked: kinds and raw texts of the tokens, joined by a separator byte.

    Two texts with the same template differ in literals, comments and white space only.
    """

def apply_edits(sql: bytes, edits: list[Edit]) -> bytes:
    """Return the text with the edits put in.

    Raises:
        ValueError: Edits overlap, are unsorted, or name tokens that are not there.
    """

@final
class ErrorFields:
    """The fields of one ErrorResponse or NoticeResponse of ours."""

    def __new__(
        cls,
        *,
        sqlstate: str,
        message: str,
        detail: str | None = None,
        hint: str | None = None,
        severity: str = "ERROR",
    ) -> ErrorFields: ...
    sqlstate: str
    message: str
    detail: str | None
    hint: str | None
    severity: str

@final
class Edit:
    """Replace the tokens ``start`` (inclusive) to ``end`` (exclusive); insert behind token ``start - 1`` when equal."""

    def __new__(cls, start: int, end: int, replacement: bytes) -> Edit: ...
    start: int
    end: int
    replacement: bytes

@final
class Denial:
    """The statement is not run; PostgreSQL is given a text that cannot parse, and its error becomes this one."""

    def __new__(cls, error: ErrorFields) -> Denial: ...
    error: ErrorFields

@final
class Effects:
    """What a statement does to the state of its session. Names are as PostgreSQL folds them, without quotes."""

    def __new__(
        cls,
        *,
        refresh: bool = False,
        prepare: str | None = None,
        execute: str | None = None,
        deallocate: str | None = None,
        deallocate_all: bool = False,
        declare: str | None = None,
        fetch: str | None = None,
        close_cursor: str | None = None,
        close_all_cursors: bool = False,
    ) -> Effects: ...
    refresh: bool
    """The context may be another one after it: ask the server (probe) and the brain before the next statement."""
    prepare: str | None
    """PREPARE name: the statement is filed under this name, with its plan and context."""
    execute: str | None
    """EXECUTE name: refused unless the named statement was made under the present context."""
    deallocate: str | None
    deallocate_all: bool
    declare: str | None
    """DECLARE name CURSOR: filed with its context."""
    fetch: str | None
    """FETCH, MOVE: refused unless the cursor's revision is the present one."""
    close_cursor: str | None
    close_all_cursors: bool

@final
class PlannedStatement:
    """One statement of a text: what becomes of it."""

    def __new__(
        cls,
        *,
        tokens: tuple[int, int],
        audit: bytes,
        edits: list[Edit] | None = None,
        denial: Denial | None = None,
        effects: Effects | None = None,
        notices: list[ErrorFields] | None = None,
        rows_max: int | None = None,
        seconds_max: float | None = None,
        governed: bool = False,
        hidden_columns: tuple[int, ...] = (),
        catalog_check: str = "none",
    ) -> PlannedStatement:
        """Make one.

        Args:
            tokens: Range of its tokens in the whole text, without the semicolon.
            audit: JSON object (UTF-8) of the audit facts: kind, tables, classes, masks, verdict, reasons, policies, revision …
            edits: Positions count from the start of the whole text.
            denial: Not run at all. One denied statement of a simple Query denies the whole Query.
            effects: None when it has none.
            notices: Sent before the statement's first answer (policies in mode warn).
            rows_max: More DataRows than this end the statement with 54000. None: no limit.
            seconds_max: Longer than this ends it with 57014. None: no limit.
            governed: It reads or writes governed tables, or is denied: refused while the audit spool cannot be written.
            hidden_columns: Reserved; must be empty.
            catalog_check: "none"; "answer": the client sees nothing of the answer before a CatalogCheckRequest, asked when
                its first part is there, was answered with ``same``; "sending": the same, and before the statement is
                sent. An EXECUTE takes over what the statement that it names was given.
        """
    tokens: tuple[int, int]
    audit: bytes
    edits: list[Edit]
    denial: Denial | None
    effects: Effects | None
    notices: list[ErrorFields]
    rows_max: int | None
    seconds_max: float | None
    governed: bool
    catalog_check: str

@final
class Plan:
    """The answer to a PlanRequest: what becomes of each statement of the text."""

    def __new__(
        cls,
        *,
        statements: list[PlannedStatement],
        cache: str = "none",
        bound: tuple[int, ...] = (),
        valid_until_ns: int | None = None,
        revision: str = "",
        settled: bool = False,
    ) -> Plan:
        """Make one.

        Args:
            statements: In order. Empty for a text without statements.
            cache: "template" (literals outside ``bound`` are free), "exact" (this text alone) or "none".
            bound: Token positions whose text is part of the key; only for "template".
            valid_until_ns: Nanoseconds since 1970 after which the plan must be asked for again. None: until the context goes.
            revision: Of the decision; written into audit by the data plane as well.
            settled: A statement behind the end of a transaction was judged in the state of the session in front of it: refused
                when that transaction changed the session's state.
        """
    statements: list[PlannedStatement]
    cache: str
    bound: tuple[int, ...]
    valid_until_ns: int | None
    revision: str
    settled: bool

@final
class SessionOpenRequest:
    """A client sent its StartupMessage. Answer: SessionAdmission or ErrorFields (sent as FATAL)."""

    id: int
    session: int
    """Number of the session in this incarnation, from 1."""
    listener: str
    """The name that the listener was added under."""
    database: str
    """The database name in the StartupMessage (the user's name when it has none)."""
    user: str
    parameters: tuple[tuple[str, str], ...]
    """All parameters of the StartupMessage, in order, ``user`` and ``database`` included."""
    peer: str
    """Address of the client, for the audit: "127.0.0.1:5001" or "unix"."""

@final
class UpstreamTls:
    """How the hop to a server is encrypted; sessions share one."""

    def __new__(
        cls,
        *,
        mode: str,
        names: list[str],
        authorities: bytes | None = None,
        certificate: tuple[bytes, bytes] | None = None,
        advice: str | None = None,
    ) -> UpstreamTls:
        """Make one.

        Args:
            mode: "prefer", "require", "verify-ca" or "verify-full", as libpq's sslmode. "prefer" goes on in the clear when TLS
                does not come about.
            names: Host names or addresses; a dot at the end is left aside. The first is asked for by SNI; with "verify-full"
                the server's certificate must have one of them as subjectAltName.
            authorities: PEM of those that may sign the server's certificate. None: it is not checked, which "verify-ca" and
                "verify-full" do not allow. Given, "prefer" and "require" check the chain as well.
            certificate: PEM of the chain that is shown when the server asks for one, and of its private key.
            advice: Sentences for the HINT of a session that fails because somebody answers who is not what is asked for.

        Raises:
            ValueError: With what is wrong: mode, name, certificate, key.
        """

@final
class ClientTls:
    """What clients that ask for TLS are shown."""

    def __new__(cls, chain: bytes, key: bytes) -> ClientTls:
        """Make one of the PEM of a certificate, with those that lead to its authority, and of its private key.

        Raises:
            ValueError: With what is wrong.
        """

@final
class SessionAdmission:
    """Where the session goes, and what to ask the server first."""

    def __new__(
        cls,
        *,
        upstream: str,
        probe: str | None,
        parameters: tuple[tuple[str, str], ...],
        audit: bytes,
        upstream_name: str,
        tls: UpstreamTls | None = None,
    ) -> SessionAdmission:
        """Make one.

        Args:
            upstream: "HOST:PORT" (an IPv6 host in brackets) or "unix:PATH".
            probe: One SELECT; its first row answers every SessionStateRequest. None: never asked (open sessions keep
                every byte), then ``probe_row`` is None.
            parameters: The StartupMessage to send upstream.
            audit: JSON object with identity, database, role; becomes part of the ``session`` record and of every event.
            upstream_name: For messages: the name the user knows it by.
            tls: Of the hop to the server, and of cancel requests for the session. None, and for a unix socket: not encrypted.
        """

@final
class SessionStateRequest:
    """Asked after authentication, after a statement with ``refresh``, and after ``advance_epoch``. Answer: SessionState or ErrorFields."""

    id: int
    session: int
    reason: str
    """"start", "refresh", "epoch", or "outdated": as "refresh", and what changed the session was judged under another policy."""
    probe_row: tuple[bytes | None, ...] | None
    """The probe's row in text format, UTF-8; the last known one for "epoch"."""
    parameter_status: tuple[tuple[str, str], ...]
    """What the server reported (server_version, client_encoding, standard_conforming_strings …)."""

@final
class Scrub:
    """How messages of the server are cleaned in this session."""

    def __new__(cls, *, enabled: bool, keep_primary: frozenset[tuple[str, str]] = frozenset()) -> Scrub:
        """Make one.

        Args:
            enabled: DETAIL, CONTEXT, HINT, internal query and its position go; the primary message is replaced unless its pair is
                listed; LOG, DEBUG and INFO notices are dropped; new values of settings that the client neither saw nor
                wrote are not reported to it. False: bytes unchanged.
            keep_primary: (SQLSTATE, routine) pairs of errors whose primary text holds no values. An empty routine stands for
                any of the server's own, where the error has no context: it speaks of the client's statement. ``*`` stands
                for any of them, everywhere.
        """

@final
class SessionState:
    """What holds for a session from now on."""

    def __new__(
        cls,
        *,
        context: int,
        level: int,
        revision: str,
        sequence: int,
        scrub: Scrub,
        close: ErrorFields | None = None,
        close_after_s: float = 30.0,
        observe: bool = False,
        channels: frozenset[str] | None = None,
    ) -> SessionState:
        """Make one.

        Args:
            context: Key of the plan cache; see docs/design.
            level: 0 open, 1 guarded, 2 restricted.
            revision: Of the policy; portals and cursors of another one are refused in restricted sessions.
            close: New statements are refused with this (FATAL) and the session ends; a statement that runs may finish.
            close_after_s: Seconds until a running statement is cancelled as well.
            observe: Nothing is denied or changed, whatever plans say.
            channels: Notifications of other channels do not reach the client. None: all do.
        """
    context: int
    level: int

@final
class PlanRequest:
    """No plan is known for this text in this context. Answer: Plan, or ErrorFields (the statement is denied with it)."""

    id: int
    session: int
    context: int
    text: bytes
    """As the client sent it, without the closing NUL."""
    simple: bool
    """True: a Query, of any number of statements. False: a Parse, of at most one."""
    parameter_types: tuple[int, ...]
    """OIDs given in the Parse; 0 is unspecified. Part of the plan cache key, but for zeros at the end."""

@final
class CatalogCheckRequest:
    """Is the catalog still the one that plans of ``context`` are made for? Answer: CatalogChecked, or ErrorFields (the statement
    fails with it)."""

    id: int
    session: int
    context: int

@final
class CatalogChecked:
    """What a look at the catalog, begun after the question was asked, found."""

    def __new__(cls, *, same: bool) -> CatalogChecked: ...
    same: bool
    """False: the statement fails with 55000, or is judged again where it was not sent yet."""

@final
class SessionClosed:
    """The session is gone. No answer."""

    session: int

@final
class SpoolStatus:
    """How the audit spool does."""

    writable: bool
    error: str | None
    """Why not, in the system's words."""
    records: int
    head: str
    """Chain head, hex."""
    incarnation: str

@final
class DataPlane:
    """Listeners, sessions, plan cache and audit spool, on a thread of their own."""

    def __new__(
        cls,
        *,
        spool_directory: str,
        spool_bytes_max: int = 1 << 30,
        segment_bytes_max: int = 16 << 20,
        sessions_max: int = 1000,
        statement_bytes_max: int = 16 << 20,
        frame_bytes_max: int = 256 << 20,
        queue_max: int = 1024,
        cache_entries_max: int = 10000,
        connect_timeout_s: float = 10.0,
        startup_timeout_s: float = 60.0,
        brain_timeout_s: float = 30.0,
        resolver: str = "system",
        resolv_conf: str | PathLike[str] = ...,
    ) -> DataPlane:
        """Open the spool and start the thread. No listener yet.

        Args:
            resolver: Who knows the addresses of upstreams: "system" (as other programs have it, the hosts file first) or "dns"
                (DNS alone, as ``resolv_conf`` says: nameservers, search, ndots). Every address is tried in turn.
            resolv_conf: By default /etc/resolv.conf; read when it is needed and whenever it changed.

        Raises:
            OSError: The spool cannot be opened.
        """

    def listen(self, name: str, address: str) -> str:
        """Open a listener at "ADDR:PORT" (an IPv6 address in brackets) or "unix:PATH", at any time.

        Returns:
            The address bound; port 0 is replaced by the real one.

        Raises:
            OSError: It cannot be bound.
        """

    def present(self, listener: str, certificate: ClientTls | None) -> None:
        """Show clients of the listeners of a name this certificate from now on; None: they are told that there is no TLS.

        Clients on unix sockets are never offered TLS. Connections that are open stay as they are.
        """

    def close_listener(self, address: str) -> bool:
        """Close the listener at an address that ``listen`` returned; its sessions go on. False when there is none."""

    def event_fd(self) -> int:
        """Return a descriptor that becomes readable when ``requests`` has something."""

    def requests(
        self,
    ) -> list[
        SessionOpenRequest | SessionStateRequest | PlanRequest | CatalogCheckRequest | SessionClosed
    ]:
        """Take everything that waits, and reset the descriptor."""

    def complete(
        self,
        request_id: int,
        answer: SessionAdmission | SessionState | Plan | CatalogChecked | ErrorFields,
    ) -> None:
        """Answer a request. An id that nobody waits for any more is ignored."""

    def advance_epoch(self) -> int:
        """Make every session ask for its state anew before its next statement; return the new epoch."""

    def epoch_reached(self) -> int:
        """The lowest epoch that any live session still works under (the present one when there are none)."""

    def stop_listening(self) -> None:
        """Close all listeners; live sessions go on."""

    def drain(self, seconds: float) -> int:
        """Wait until all sessions are gone or idle ones were closed (57P01); return how many were cut after ``seconds``. Blocks with
        the interpreter detached."""

    def stop(self) -> None:
        """Cut what is left, write ``close`` to the spool, end the thread.

        Raises:
            OSError: Records of the audit are missing from the disk.
        """

    def spool_status(self) -> SpoolStatus: ...
    def metrics(self) -> dict[str, int]:
        """Counters and gauges by name: sessions_open, sessions_total, statements_total, denied_total, plan_hits_total, plan_misses_total,
        cache_entries, rows_total, result_bytes_total, queue_length, spool_records_total."""
