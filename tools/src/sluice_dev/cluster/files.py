"""Configuration files of the node's programs, written anew at each start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice_dev.cluster.control import Control
from sluice_dev.cluster.node import Network

PAUSE_IMAGE = "localhost/sluice/pause:1"

_CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true  # A container that runs us may not be allowed less than its own.
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""

_COREFILE = """\
.:53 {{
    bind {node}
    health {node}:8080
    ready {node}:8181
    errors
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
        pods verified
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Where the node's programs find their configuration."""

    directory: Path
    network: Network
    control: Control
    node_name: str

    @property
    def socket(self) -> Path:
        """Of containerd; short, for a socket's path has 107 bytes at most."""
        return self.directory / "containerd.sock"

    @property
    def containerd(self) -> Path:
        """Containerd's configuration."""
        return self.directory / "config" / "containerd.toml"

    @property
    def kubelet(self) -> Path:
        """The kubelet's configuration."""
        return self.directory / "config" / "kubelet.json"

    @property
    def proxy(self) -> Path:
        """kube-proxy's configuration."""
        return self.directory / "config" / "kube-proxy.json"

    @property
    def corefile(self) -> Path:
        """CoreDNS' configuration."""
        return self.directory / "config" / "Corefile"

    def write(self) -> None:
        """Write them all."""
        for name in ("config/cni", "kubelet", "containerd", "pods"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        cni = self.directory / "config" / "cni"
        root = self.directory / "containerd"
        _write(
            self.containerd,
            _CONTAINERD.format(root=root, socket=self.socket, pause=PAUSE_IMAGE, cni=cni),
        )
        _json(cni / "10-sluice.conflist", self._cni())
        _json(self.kubelet, self._kubelet())
        _json(self.proxy, self._proxy())
        coredns = self.control.directory / "coredns.kubeconfig"
        _write(self.corefile, _COREFILE.format(node=self.network.node, kubeconfig=coredns))
        _write(self.directory / "config" / "resolv.conf", f"nameserver {self.network.node}\n")

    def _cni(self) -> dict[str, Any]:
        # A cable for each pod instead of a bridge: Services then need no bridge netfilter.
        addresses = {
            "type": "host-local",
            "dataDir": "/var/lib/cni/networks",
            "ranges": [[{"subnet": self.network.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        plugins: list[dict[str, Any]] = [
            {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        return {"cniVersion": "0.4.0", "name": "sluice", "plugins": plugins}

    def _kubelet(self) -> dict[str, Any]:
        pki = self.control.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.network.node,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.control.authority_file)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            # Without cgroups for pods, comparing theirs with what they ask for ends the kubelet (kubernetes#137993).
            "featureGates": {"InPlacePodVerticalScaling": False},
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "clusterDNS": [self.network.dns],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.directory / "config" / "resolv.conf"),
            "evictionHard": {
                "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": str(self.directory / "pods"),
            "volumePluginDir": str(self.directory / "kubelet" / "plugins"),
            "volumeStatsAggPeriod": "-1s",  # Nobody reads them; looking costs.
            "staticPodPath": "",
            "maxPods": 200,
            "nodeStatusUpdateFrequency": "10s",
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
        }  # fmt: skip

    def _proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": self.network.node,
            "clientConnection": {"kubeconfig": str(self.control.directory / "kube-proxy.kubeconfig")},
            "clusterCIDR": self.network.pods,
            "hostnameOverride": self.node_name,
            "mode": "iptables",
            "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
            # The namespace's own table has the machine's sizes; they are not ours to set.
            "conntrack": {
                "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
            "healthzBindAddress": f"{self.network.node}:10256",
            "metricsBindAddress": "",
        }  # fmt: skip


def _json(path: Path, document: Mapping[str, Any]) -> None:
    _write(path, json.dumps(document, indent=1))


def _write(path: Path, text: str) -> None:
    # kube-proxy ends when its file is written, though nothing in it changed.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def dns_objects(network: Network) -> list[dict[str, Any]]:
    """Return the Service of the cluster's DNS, whose only endpoint is the node, and what CoreDNS may read."""
    name = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    labels = {"kubernetes.io/service-name": "kube-dns"}
    rules = [
        {
            "apiGroups": [""],
            "resources": ["services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
    ]
    role = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "sluice-local-dns",
    }
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "coredns"}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "sluice-local-dns"}, "rules": rules},
        {
            "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "sluice-local-dns"},
            "roleRef": role, "subjects": [subject],
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": {"clusterIP": network.dns, "ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {**name, "labels": labels}, "addressType": "IPv4", "ports": ports,
            "endpoints": [{"addresses": [network.node], "conditions": {"ready": True}}],
        },
    ]  # fmt: skip
