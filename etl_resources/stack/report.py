"""What `up` and `status` tell: servers with their health, and everything needed to connect."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["embedded", "external"]


class ServerStatus(BaseModel):
    """One server as it is now."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    healthy: bool
    detail: str
    """What is wrong, empty when healthy."""
    address: str
    """host:port, or an URL; empty for a server without a port."""
    port: int | None = None
    pid: int | None = None
    log: Path | None = None


class StackStatus(BaseModel):
    """The whole stack. Carries credentials: print as JSON for its owner only, `lines()` hides them."""

    model_config = ConfigDict(frozen=True)

    home: Path
    servers: tuple[ServerStatus, ...]
    bucket: str
    postgres_dsn: str | None = None
    erp_dsn: str | None = None
    """The ERP as its read-only role: what sources use."""
    erp_admin_dsn: str | None = None
    """The owner of the embedded ERP database, for demos and tests; None for an external ERP."""
    s3_endpoint: str | None = None
    s3_access_key: str | None = None
    s3_secret_key: str | None = None
    s3_region: str | None = None
    elasticsearch_url: str | None = None
    elasticsearch_username: str | None = None
    elasticsearch_password: str | None = None
    """Of the embedded one; credentials of an external one stay where they are."""
    spark_master: str | None = None
    """Address of the embedded Spark, whose secret stack.json keeps."""
    without: tuple[str, ...] = ()
    """What is no part of this stack, and why: one line each."""
    ui_url: str | None = None

    @property
    def healthy(self) -> bool:
        """True when there are servers and all of them are healthy."""
        return bool(self.servers) and all(s.healthy for s in self.servers)

    def lines(self) -> list[str]:
        """For people: a line per server, no password."""
        if not self.servers:
            return [f"nothing is started in {self.home}. Run `data-pipeline up`."]
        width = max(len(s.name) for s in self.servers)
        return [*(_line(server, width) for server in self.servers), *self.without]


def _line(server: ServerStatus, width: int) -> str:
    where = server.address or "no port"
    process = f", pid {server.pid}" if server.pid else ""
    text = f"{server.name:<{width}}  {'ok' if server.healthy else 'DOWN':<4}  {server.kind}  {where}{process}"
    if not server.healthy:
        text += f"\n{'':<{width}}        {server.detail}" + (f" Log: {server.log}" if server.log else "")
    return text
