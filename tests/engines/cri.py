"""A private containerd with its CRI plugin, and a client of it: what a kubelet asks (runtime.v1).

Messages are (field, value) pairs; the numbers are those of the CRI's api.proto. Pods share the network of the
containerd, a namespace of its own, so that no CNI plugin is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import leaks, proc

from engines import command, image
from engines.candidate import Candidate
from engines.containerd import COMMON, SHIM_TYPE, Containerd
from pyruntime.criu.messages import encode, parse

PAUSE = "docker.io/library/pause:latest"
HANDLER = "pyruntime"
CREATED, RUNNING, EXITED = 0, 1, 2  # ContainerState
_POD, _CONTAINER, _NODE = 0, 1, 2  # NamespaceMode
# The plugin's settings: of containerd 1, and of containerd 2, where it is three plugins.
PLUGIN = {
    2: """\
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_tcp_service = true
""",
    3: """\
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_tcp_service = true
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
""",
}
RUNTIMES = """\
[plugins."{plugin}".cni]
  conf_dir = "{folder}/cni"
  bin_dir = "/usr/lib/cni"
[plugins."{plugin}".containerd]
  default_runtime_name = "{handler}"
[plugins."{plugin}".containerd.runtimes.{handler}]
  runtime_type = "{type}"
"""
# For pods with a network of their own, in containerd's.
NETWORK = """\
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp",
 "ipam": {"type": "static", "addresses": [{"address": "10.88.7.2/24", "gateway": "10.88.7.1"}]}}]}
"""
RUNC = """\
[plugins."{plugin}".containerd.runtimes.{handler}.options]
  BinaryName = "{runtime}"
  Root = "{folder}/runtime"
"""


class Cri(Containerd):
    """containerd as a kubelet sees it, with the runc shim and the candidate, or with our own shim."""

    def __init__(self, folder: Path, candidate: Candidate, *, shim: bool = False) -> None:
        import grpc  # the tests are skipped without it

        self.error = grpc.RpcError
        self.shim_type = SHIM_TYPE if shim else "io.containerd.runc.v2"
        super().__init__(folder, candidate)
        (folder / "cni").mkdir()
        (folder / "cni" / "pods.conflist").write_text(NETWORK)
        self.namespace = self.client[-1] = "k8s.io"  # where the plugin keeps everything
        self.hint = "crictl runp --runtime pyruntime pod.json"
        self.pods: list[str] = []
        self.namespaces: dict[str, bytes] = {}  # of each pod

    def config(self) -> str:
        version = 2 if command.run(["containerd", "--version"]).stdout.split()[2].startswith("1.") else 3
        values = {
            "version": version,
            "folder": self.folder,
            "pause": PAUSE,
            "plugin": "io.containerd.grpc.v1.cri" if version == 2 else "io.containerd.cri.v1.runtime",
            "handler": HANDLER,
            "type": self.shim_type,
            "runtime": self.candidate.path,
        }
        text = COMMON + PLUGIN[version] + RUNTIMES + (RUNC if self.shim_type != SHIM_TYPE else "")
        return text.format(**values)

    def start(self) -> None:
        super().start()
        proc.wait_until(self._is_ready, "the CRI plugin answers")

    def _is_ready(self) -> bool:
        try:
            return bool(self.call("Version", [(1, "v1")]))
        except self.error:
            return False

    def load(self, archive: Path) -> None:
        """Import the image, and one whose command waits for ever, for pods' sandboxes."""
        pause = image.write(self.folder / "pause.tar", name=PAUSE, command="/pause")
        for file in (archive, pause):
            self.import_image(file)
        names = (PAUSE, image.NAME)
        proc.wait_until(lambda: all(self.has_image(name) for name in names), "the CRI plugin knows the images", 20)

    def has_image(self, name: str) -> bool:
        """Whether the CRI plugin knows an image: it learns of them by events."""
        spec = encode([(1, encode([(1, name)]))])
        return bool(self.unary("ImageService/ImageStatus", spec).get(1))

    def unary(self, method: str, request: bytes) -> dict[int, Any]:
        """Call a method: the last value of each field of the answer."""
        import grpc

        # A channel for each: one that has seen containerd end waits before it tries again.
        with grpc.insecure_channel(f"unix://{self.folder}/containerd.sock") as channel:
            return dict(parse(channel.unary_unary(f"/runtime.v1.{method}")(request, timeout=60)))

    def call(self, method: str, fields: list[tuple[int, Any]]) -> dict[int, Any]:
        """Call a method of the RuntimeService."""
        return self.unary(f"RuntimeService/{method}", encode(fields))

    def pod(self, *, shared_pids: bool = False, users: int = 0) -> tuple[str, bytes]:
        """Run a pod: (its id, its PodSandboxConfig). users: the first of 65536 host ids of its user namespace, as for
        a Kubernetes pod with `hostUsers: false`; 0 for none."""
        name = self.name()
        logs = self.folder / "logs" / name
        logs.mkdir(parents=True)
        options = self._namespaces(shared_pids, users)
        linux = encode([(1, f"/{leaks.PREFIX}-cri/{name}"), (2, encode([(1, options)]))])
        metadata = encode([(1, name), (2, name), (3, "default")])
        config = encode([(1, metadata), (3, str(logs)), (8, linux)])
        id = self.call("RunPodSandbox", [(1, config), (2, HANDLER)])[1].decode()
        self.pods.append(id)
        self.namespaces[id] = options
        return id, config

    def _namespaces(self, shared_pids: bool, users: int) -> bytes:
        """NamespaceOption of a pod and its containers. Only one with a user namespace has its own network, without
        which sysfs cannot be mounted in it."""
        fields: list[tuple[int, Any]] = [
            (1, _POD if users else _NODE),
            (2, _POD if shared_pids else _CONTAINER),
            (3, _POD),
        ]
        if users:
            mapping = encode([(1, users), (3, 65536)])
            fields.append((5, encode([(1, _POD), (2, mapping), (3, mapping)])))
        return encode(fields)

    def container(
        self, pod: tuple[str, bytes], name: str, *words: str, memory: int = 0, volume: tuple[Path, str] | None = None
    ) -> str:
        """Create and start a container in a pod: its id. volume: a directory of the host, and where it is mounted."""
        resources = encode([(4, memory)]) if memory else b""
        security = encode([(3, self.namespaces[pod[0]])])
        fields = [(1, encode([(1, name)])), (2, encode([(1, image.NAME)]))]
        fields += [(3, word) for word in words]
        fields.append((6, encode([(1, "NAME"), (2, name)])))
        if volume:
            fields.append((7, encode([(1, volume[1]), (2, str(volume[0]))])))
        fields.append((11, f"{name}.log"))
        fields += [(15, encode([(1, resources), (2, security)]))]
        id = self.call("CreateContainer", [(1, pod[0]), (2, encode(fields)), (3, pod[1])])[1].decode()
        self.call("StartContainer", [(1, id)])
        return id

    def exec_sync(self, container: str, *words: str) -> tuple[int, str]:
        """Run a command in a container: (exit status, output)."""
        answer = self.call("ExecSync", [(1, container), *((2, word) for word in words), (3, 30)])
        return answer.get(3, 0), answer.get(1, b"").decode()

    def status(self, container: str) -> tuple[int, int]:
        """(state, exit status) of a container."""
        status = dict(parse(self.call("ContainerStatus", [(1, container)])[1]))
        return status.get(3, 0), status.get(7, 0)

    def stats(self, container: str) -> tuple[int, int]:
        """(nanoseconds of CPU time, bytes of memory in use) of a container."""
        found = dict(parse(self.call("ContainerStats", [(1, container)])[1]))
        cpu, memory = (dict(parse(found[field])) for field in (2, 3))
        return (dict(parse(cpu[2])).get(1, 0), dict(parse(memory[2])).get(1, 0))

    def log(self, pod: tuple[str, bytes], name: str) -> list[str]:
        """The lines that a container has written, as the kubelet's file has them: without time, stream and tag."""
        folder = dict(parse(pod[1]))[3].decode()
        file = Path(folder, f"{name}.log")
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.split(" ", 3)[3] for line in lines]

    def limit_memory(self, container: str, limit: int) -> None:
        """Give a running container another limit, in bytes."""
        self.call("UpdateContainerResources", [(1, container), (2, encode([(4, limit)]))])

    def stop_container(self, container: str, seconds: int = 5) -> None:
        self.call("StopContainer", [(1, container), (2, seconds)])

    def remove_container(self, container: str) -> None:
        self.call("RemoveContainer", [(1, container)])

    def remove_pod(self, id: str) -> None:
        """Stop and remove a pod, and all of its containers."""
        self.call("StopPodSandbox", [(1, id)])
        self.call("RemovePodSandbox", [(1, id)])
        self.pods.remove(id)

    def stop(self) -> None:
        """Remove all pods, and end the daemon and its network."""
        for id in list(self.pods):
            try:
                self.remove_pod(id)
            except self.error:
                pass
        super().stop()
        # The cgroups of pods are the kubelet's to make and to remove.
        for top in leaks.hierarchies():
            for path in Path(top).glob(f"{leaks.PREFIX}-cri/*/"):
                if path.is_dir():
                    path.rmdir()
        leaks.remove_cgroup_parent(f"/{leaks.PREFIX}-cri")
