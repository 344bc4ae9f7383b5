"""A private containerd that is asked by its CRI plugin, as kubelet asks it (Kubernetes, CRI runtime.v1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import leaks, proc

from engines import image
from engines.candidate import Candidate
from engines.containerd import SHIM_TYPE, SNAPSHOTTERS, ShimContainerd
from pyruntime.shim import wire
from pyruntime.shim.messages import MESSAGES

NAMESPACE = "k8s.io"  # where CRI keeps everything
PAUSE = "docker.io/library/pause:latest"
CONFIG = f"""\
version = 2
root = "{{folder}}/root"
state = "{{folder}}/state"
[grpc]
  address = "{{folder}}/containerd.sock"
[ttrpc]
  address = "{{folder}}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{{folder}}/none"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "pyruntime"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.pyruntime]
      runtime_type = "{SHIM_TYPE}"
"""

_STRING, _NUMBER, _BOOL = "string", "uint64", "bool"


def _message(**fields: tuple[int, str] | tuple[int, str, bool]) -> tuple[tuple[int, str, str, bool], ...]:
    """A table of wire.py: name=(number, type[, repeated])."""
    return tuple((field[0], name, field[1], len(field) > 2) for name, field in fields.items())


# What these tests need of the messages.
MESSAGES.update(
    CriMetadata=_message(name=(1, _STRING), uid=(2, _STRING), namespace=(3, _STRING)),
    CriNamespaces=_message(network=(1, _NUMBER), pid=(2, _NUMBER), ipc=(3, _NUMBER)),
    CriSandboxSecurity=_message(namespace_options=(1, "CriNamespaces")),
    CriSandboxLinux=_message(cgroup_parent=(1, _STRING), security_context=(2, "CriSandboxSecurity")),
    CriSandboxConfig=_message(metadata=(1, "CriMetadata"), log_directory=(3, _STRING), linux=(8, "CriSandboxLinux")),
    CriRunPodSandbox=_message(config=(1, "CriSandboxConfig"), runtime_handler=(2, _STRING)),
    CriSandboxId=_message(pod_sandbox_id=(1, _STRING)),
    CriName=_message(name=(1, _STRING)),
    CriImage=_message(image=(1, _STRING)),
    CriResources=_message(memory_limit_in_bytes=(4, _NUMBER)),
    CriSecurity=_message(namespace_options=(3, "CriNamespaces")),
    CriLinux=_message(resources=(1, "CriResources"), security_context=(2, "CriSecurity")),
    CriContainerConfig=_message(
        metadata=(1, "CriName"),
        image=(2, "CriImage"),
        command=(3, _STRING, True),
        log_path=(11, _STRING),
        linux=(15, "CriLinux"),
    ),
    CriCreateContainer=_message(
        pod_sandbox_id=(1, _STRING), config=(2, "CriContainerConfig"), sandbox_config=(3, "CriSandboxConfig")
    ),
    CriContainerId=_message(container_id=(1, _STRING)),
    CriStop=_message(container_id=(1, _STRING), timeout=(2, _NUMBER)),
    CriUpdate=_message(container_id=(1, _STRING), linux=(2, "CriResources")),
    CriExecSync=_message(container_id=(1, _STRING), cmd=(2, _STRING, True), timeout=(3, _NUMBER)),
    CriExecSyncAnswer=_message(stdout=(1, "bytes"), stderr=(2, "bytes"), exit_code=(3, "int32")),
    CriStatus=_message(id=(1, _STRING), state=(3, _NUMBER), exit_code=(7, "int32")),
    CriStatusAnswer=_message(status=(1, "CriStatus")),
    CriValue=_message(value=(1, _NUMBER)),
    CriUsage=_message(timestamp=(1, _NUMBER), value=(2, "CriValue")),
    CriStats=_message(cpu=(2, "CriUsage"), memory=(3, "CriUsage")),
    CriStatsAnswer=_message(stats=(1, "CriStats")),
    CriEmpty=(),
)

RUNNING, EXITED = 1, 2


class Cri(ShimContainerd):
    """containerd with the CRI plugin and our shim. Pods share the network of containerd: there is no CNI here."""

    def __init__(self, folder: Path, candidate: Candidate) -> None:
        super().__init__(folder, candidate)
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        self.namespace = self.client[-1] = NAMESPACE
        self._pods: list[str] = []

    def start(self) -> None:
        """Start it; ready when the CRI plugin is, too."""
        import grpc

        super().start()

        def answers() -> bool:
            try:
                self.ask("ListPodSandbox", "CriEmpty")
            except grpc.RpcError:
                return False  # "server is not initialized yet"
            return True

        proc.wait_until(answers, "the CRI plugin answers")

    def load(self, archive: Path) -> None:
        """Import the image, and one for the pods' own containers."""
        pause = image.write(archive.with_name("pause.tar"), PAUSE, "/pause")
        for one in (archive, pause):
            self.ctr("image", "import", "--snapshotter", SNAPSHOTTERS[1], str(one))

    def ask(self, method: str, request: str, answer: str = "CriEmpty", **values: Any) -> dict[str, Any]:
        """One request to the runtime service."""
        import grpc  # the tests are skipped without it

        with grpc.insecure_channel(f"unix://{self.folder}/containerd.sock") as channel:
            call: Callable[..., bytes] = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
            return wire.decode(answer, call(wire.encode(request, values), timeout=30))

    def pod_config(self, name: str) -> dict[str, Any]:
        """The config of a pod on the host's network, whose containers see each other's processes."""
        options = {"network": 2, "pid": 0}
        linux = {"cgroup_parent": f"/{leaks.PREFIX}-pods", "security_context": {"namespace_options": options}}
        return {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "log_directory": f"{self.folder}/logs/{name}",
            "linux": linux,
        }

    def run_pod(self, name: str) -> str:
        """Start a pod: its id."""
        config = self.pod_config(name)
        id = self.ask("RunPodSandbox", "CriRunPodSandbox", "CriSandboxId", config=config)["pod_sandbox_id"]
        self._pods.append(id)
        return str(id)

    def run_in_pod(self, pod: str, name: str, pod_name: str, command: list[str], memory: int = 0) -> str:
        """Create and start a container of a pod: its id."""
        linux = {
            "resources": {"memory_limit_in_bytes": memory},
            "security_context": {"namespace_options": {"network": 2, "pid": 0}},
        }
        config = {
            "metadata": {"name": name},
            "image": {"image": image.NAME},
            "command": command,
            "log_path": f"{name}.log",
            "linux": linux,
        }
        id = self.ask("CreateContainer", "CriCreateContainer", "CriContainerId", pod_sandbox_id=pod, config=config,
                      sandbox_config=self.pod_config(pod_name))["container_id"]  # fmt: skip
        self.ask("StartContainer", "CriContainerId", container_id=id)
        return str(id)

    def exec_sync(self, id: str, *words: str) -> tuple[int, str]:
        """Run a command in a container: (exit status, standard output)."""
        answer = self.ask("ExecSync", "CriExecSync", "CriExecSyncAnswer", container_id=id, cmd=list(words), timeout=20)
        return answer["exit_code"], answer["stdout"].decode()

    def status(self, id: str) -> dict[str, Any]:
        return self.ask("ContainerStatus", "CriContainerId", "CriStatusAnswer", container_id=id)["status"] or {}

    def stats(self, id: str) -> dict[str, Any]:
        return self.ask("ContainerStats", "CriContainerId", "CriStatsAnswer", container_id=id)["stats"] or {}

    def remove_pod(self, id: str) -> None:
        """Stop and remove a pod with all its containers."""
        self.ask("StopPodSandbox", "CriSandboxId", pod_sandbox_id=id)
        self.ask("RemovePodSandbox", "CriSandboxId", pod_sandbox_id=id)
        self._pods.remove(id)

    def stop(self) -> None:
        for pod in list(self._pods):
            self.remove_pod(pod)
        super().stop()
