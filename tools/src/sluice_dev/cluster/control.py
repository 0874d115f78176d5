"""Command lines of etcd and kube-apiserver, the same for tests and for the whole cluster."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from sluice_dev.cluster import pki, programs


@dataclass(frozen=True, slots=True)
class Control:
    """Where a control plane keeps its files and listens."""

    directory: Path
    api_port: int
    etcd_port: int
    peer_port: int
    address: str | None = None
    """Of the node, where pods reach it; None: no node, loopback only."""
    service_range: str = "10.0.0.0/24"
    service_address: str = "10.0.0.1"
    """The first address of ``service_range``: Service ``kubernetes``."""

    @property
    def url(self) -> str:
        """The API server's."""
        return f"https://{self.address or '127.0.0.1'}:{self.api_port}"

    @property
    def pki(self) -> Path:
        """Folder of keys and certificates."""
        return self.directory / "pki"

    @property
    def authority_file(self) -> Path:
        """Certificate of the authority of the API server and of all its callers."""
        return self.pki / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "admin.kubeconfig"

    @property
    def service_account_key(self) -> Path:
        """Signs and proves service account tokens."""
        return self.pki / "service-accounts.key"

    def prepare(self) -> None:
        """Make what is missing of keys, certificates and the administrator's kubeconfig."""
        self.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = self.authority()
        stores = pki.Authority.at(self.pki, "etcd-ca")
        stores.issue(self.pki, "etcd", name="etcd", addresses=["127.0.0.1"])
        names = [
            "127.0.0.1",
            "localhost",
            self.service_address,
            *([self.address] if self.address else []),
        ]
        names += [
            f"kubernetes{end}"
            for end in ("", ".default", ".default.svc", ".default.svc.cluster.local")
        ]
        authority.issue(self.pki, "apiserver", name="kube-apiserver", addresses=names)
        authority.issue(
            self.pki, "apiserver-kubelet-client", name="kube-apiserver", groups=["system:masters"]
        )
        pki.signing_key(self.service_account_key)
        self.user_kubeconfig("admin", name="admin", groups=["system:masters"])

    def authority(self) -> pki.Authority:
        """Return the authority of the API server and of all its callers."""
        return pki.Authority.at(self.pki, "ca")

    def user_kubeconfig(self, file: str, *, name: str, groups: list[str]) -> Path:
        """Write ``file``.kubeconfig for a user; return its path."""
        pair = self.authority().issue(self.pki, f"user-{file}", name=name, groups=groups)
        return pki.kubeconfig(
            self.directory / f"{file}.kubeconfig", self.url, self.authority_file, user=pair
        )

    def etcd_command(self) -> list[str]:
        """Return how etcd is started."""
        client, peer = f"https://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        return [
            str(programs.ensure(programs.LOCALKUBE)), "etcd",
            "--name=sluice",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=sluice={peer}",
            f"--cert-file={self.pki / 'etcd.crt'}",
            f"--key-file={self.pki / 'etcd.key'}",
            f"--trusted-ca-file={self.pki / 'etcd-ca.crt'}",
            "--client-cert-auth=true",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]  # fmt: skip

    def apiserver_command(self) -> list[str]:
        """Return how kube-apiserver is started."""
        command = [
            str(programs.ensure(programs.LOCALKUBE)), "kube-apiserver",
            f"--etcd-servers=https://127.0.0.1:{self.etcd_port}",
            f"--etcd-cafile={self.pki / 'etcd-ca.crt'}",
            f"--etcd-certfile={self.pki / 'etcd.crt'}",
            f"--etcd-keyfile={self.pki / 'etcd.key'}",
            f"--cert-dir={self.pki}",
            f"--tls-cert-file={self.pki / 'apiserver.crt'}",
            f"--tls-private-key-file={self.pki / 'apiserver.key'}",
            f"--client-ca-file={self.authority_file}",
            f"--secure-port={self.api_port}",
            f"--bind-address={self.address or '127.0.0.1'}",
            f"--service-cluster-ip-range={self.service_range}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.service_account_key}",
            f"--service-account-signing-key-file={self.service_account_key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--anonymous-auth=true",
            "--profiling=false",
        ]  # fmt: skip
        if self.address is None:
            # An address must be given; without a reconciler nobody is told of it.
            return [*command, "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none"]
        return [
            *command,
            f"--advertise-address={self.address}",
            f"--kubelet-client-certificate={self.pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={self.pki / 'apiserver-kubelet-client.key'}",
            f"--kubelet-certificate-authority={self.authority_file}",
            "--kubelet-preferred-address-types=InternalIP",
            # Webhook calls go straight to a Service's endpoints.
            "--enable-aggregator-routing=true",
        ]

    def not_ready(self) -> str | None:
        """Return what keeps the API server from being ready; None when it is."""
        if not self.authority_file.exists():
            return "it was never started"
        try:
            context = ssl.create_default_context(cafile=str(self.authority_file))
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=context) as answer:  # noqa: S310 - https, written above.
                return None if answer.status == 200 else f"/readyz answers {answer.status}"
        except urllib.error.HTTPError as refusal:
            with refusal:
                failed = [
                    line for line in refusal.read().decode().splitlines() if line.startswith("[-]")
                ]
            return f"/readyz answers {refusal.code}: {'; '.join(failed)}"
        except OSError as error:
            return str(error)
