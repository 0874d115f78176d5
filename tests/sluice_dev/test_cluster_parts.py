"""Parts of the local cluster that need neither root nor a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sluice_dev.cache import ROOT
from sluice_dev.cluster import archives, local, processes
from sluice_dev.cluster.command import main
from sluice_dev.cluster.images import IMAGES, Images
from sluice_dev.cluster.local import LocalCluster
from sluice_dev.cluster.others import CurrentCluster
from sluice_dev.cluster.processes import Processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def running(tmp_path: Path):
    one = Processes(tmp_path)
    yield one
    for path in tmp_path.glob("*.pid"):
        one.stop(path.stem, signal.SIGKILL)


def test_a_program_is_started_once_and_found_again(running: Processes, tmp_path: Path):
    marker = f"marker:{tmp_path}"
    assert running.ensure("one", [*SLEEP, marker], marker=marker)
    assert not running.ensure("one", [*SLEEP, marker], marker=marker)
    pid = running.pid("one")
    assert Processes(tmp_path).pid("one") == pid
    assert running.stop("one")
    assert running.pid("one") is None


def test_a_program_whose_note_was_never_written_is_adopted(running: Processes, tmp_path: Path):
    marker = f"marker:{tmp_path}"
    running.ensure("one", [*SLEEP, marker], marker=marker)
    pid = running.pid("one")
    (tmp_path / "one.pid").unlink()
    assert not running.ensure("one", [*SLEEP, marker], marker=marker)
    assert running.pid("one") == pid


def test_a_number_that_went_to_another_process_is_not_ours(running: Processes, tmp_path: Path):
    (tmp_path / "one.pid").write_text(f"{os.getpid()} 1\n")
    assert running.pid("one") is None
    assert not running.stop("one")


def test_end_insists_when_a_process_ignores_the_signal():
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        processes.end(process.pid, within_s=0.2)
        assert processes.started_at(process.pid) is None


def test_an_image_of_one_program_is_the_same_each_time_and_runs_unprivileged(tmp_path: Path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    one = archives.single_file_image(tmp_path / "1.tar", "localhost/x:1", program)
    two = archives.single_file_image(tmp_path / "2.tar", "localhost/x:1", program)
    assert one.read_bytes() == two.read_bytes()
    assert archives.contents(one) == archives.contents(two)
    with tarfile.open(one) as tar:
        file = tar.extractfile(archives.contents(one)["localhost/x:1"])
        assert file is not None
        assert json.load(file)["config"] == {"Entrypoint": ["/program"], "User": "65535:65535"}


def test_without_root_it_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(local.node, "missing_packages", lambda: ["containerd", "runc"])
    with pytest.raises(
        local.ClusterError, match=r"needs root .* packages containerd runc.*CLUSTER=kind"
    ):
        LocalCluster("x", tmp_path / "x").up()


def test_state_where_the_node_has_folders_of_its_own_is_refused():
    if os.geteuid() != 0 or local.node.missing_packages():
        pytest.skip("root and the packages come first")
    with pytest.raises(local.ClusterError, match="cannot be below /run"):
        LocalCluster("x", Path("/run/x")).up()


def test_folders_of_others_are_neither_used_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "precious").touch()
    one = LocalCluster("x", tmp_path)
    monkeypatch.setattr(LocalCluster, "_need_root", lambda _self: None)
    with pytest.raises(local.ClusterError, match="nothing was removed"):
        one.down()
    with pytest.raises(local.ClusterError, match="holds other things"):
        one._claim_folder()
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_unknown_kind_of_cluster_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CLUSTER", "minikube")
    assert main(["status"]) == 1
    assert "CLUSTER=minikube is none of local, kind, current" in capsys.readouterr().err


def test_an_image_nobody_builds_is_refused():
    with pytest.raises(local.ClusterError, match="localhost/sluice/proxy:dev"):
        Images().ensure("nginx")


@pytest.mark.parametrize(
    "image", [one for one in IMAGES if one.dockerfile], ids=lambda one: one.key
)
def test_images_run_as_a_number_that_is_not_root(image):
    users = [
        line.split()[1]
        for line in (ROOT / image.dockerfile).read_text().splitlines()
        if line.startswith("USER ")
    ]
    assert users
    user, group = users[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_current_cluster_gets_images_by_its_owner_s_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    archive = tmp_path / "an image.tar"
    archive.touch()
    monkeypatch.setenv("CLUSTER", "current")
    for name in ("LOAD", "IMAGES"):
        monkeypatch.delenv(name, raising=False)
    assert main(["images"]) == 1
    assert "LOAD='minikube image load {}'" in capsys.readouterr().err
    one = CurrentCluster()
    monkeypatch.setenv("LOAD", f"cp {{}} {tmp_path}/loaded")
    one.load(archive)
    assert (tmp_path / "loaded").exists()
    monkeypatch.setenv("LOAD", "echo no room >&2; false {}")
    with pytest.raises(local.ClusterError, match="no room"):
        one.load(archive)
    loads_itself = f"CLUSTER=current {ROOT}/tools/cluster load {{}}"
    monkeypatch.setenv("LOAD", loads_itself)
    with pytest.raises(local.ClusterError, match=r"for ever.*env -u CLUSTER"):
        one.load(archive)
    monkeypatch.setenv("IMAGES", "registry.example/team/")
    assert main(["images"]) == 0
    assert one.image_name("proxy", "localhost/x:dev") == "registry.example/team/proxy:dev"
