"""A private containerd with its CRI plugin and the runc shim, and a client of it: what a kubelet asks (runtime.v1).

Messages are (field, value) pairs; the numbers are those of the CRI's api.proto. Pods share the network of the
containerd, a namespace of its own, so that no CNI plugin is needed.
"""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

from support import leaks

from engines import command, image
from engines.candidate import Candidate
from engines.daemon import Daemon, Network
from pyruntime.criu.messages import encode, parse

PAUSE = "docker.io/library/pause:latest"
HANDLER = "pyruntime"
CREATED, RUNNING, EXITED = 0, 1, 2  # ContainerState
_POD, _CONTAINER, _NODE = 0, 1, 2  # NamespaceMode
CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[debug]
  level = "debug"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "{handler}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{handler}]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{handler}.options]
    BinaryName = "{runtime}"
    Root = "{folder}/runtime"
"""


class Cri:
    """containerd as a kubelet sees it."""

    def __init__(self, folder: Path, candidate: Candidate) -> None:
        import grpc

        folder.mkdir(parents=True)
        (folder / "cni").mkdir()
        self.folder = folder
        self.network = Network()
        self.hint = "crictl runp --runtime pyruntime pod.json"
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder, pause=PAUSE, handler=HANDLER, runtime=candidate.path))
        self.daemon = Daemon([*self.network.enter, "containerd", "--config", str(config)], folder / "log")
        self.channel = grpc.insecure_channel(f"unix://{folder}/containerd.sock")
        self.error = grpc.RpcError
        self._numbers = count(1)
        self.pods: list[str] = []
        self.shared_pids: set[str] = set()

    def start(self) -> None:
        self.daemon.start(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return bool(self.call("Version", [(1, "v1")]))
        except self.error:
            return False

    def load(self, archive: Path) -> None:
        """Import the image, and one whose command waits for ever, for pods' sandboxes."""
        pause = image.write(self.folder / "pause.tar", name=PAUSE, command="/pause")
        for file in (archive, pause):
            client = ["ctr", "--address", f"{self.folder}/containerd.sock", "--namespace", "k8s.io"]
            command.run([*client, "image", "import", str(file)])
        deadline = time.monotonic() + 20
        while not all(self.has_image(name) for name in (PAUSE, image.NAME)):
            assert time.monotonic() < deadline, self.daemon.tail()
            time.sleep(0.1)

    def has_image(self, name: str) -> bool:
        """Whether the CRI plugin knows an image: it learns of them by events."""
        spec = encode([(1, encode([(1, name)]))])
        return bool(self.unary("ImageService/ImageStatus", spec).get(1))

    def unary(self, method: str, request: bytes) -> dict[int, Any]:
        """Call a method: the last value of each field of the answer."""
        call = self.channel.unary_unary(f"/runtime.v1.{method}")
        return dict(parse(call(request, timeout=60)))

    def call(self, method: str, fields: list[tuple[int, Any]]) -> dict[int, Any]:
        """Call a method of the RuntimeService."""
        return self.unary(f"RuntimeService/{method}", encode(fields))

    def pod(self, *, shared_pids: bool = False) -> tuple[str, bytes]:
        """Run a pod: (its id, its PodSandboxConfig)."""
        name = f"{leaks.PREFIX}-pod{next(self._numbers)}"
        logs = self.folder / "logs" / name
        logs.mkdir(parents=True)
        pids = _POD if shared_pids else _CONTAINER
        security = encode([(1, encode([(1, _NODE), (2, pids), (3, _POD)]))])
        linux = encode([(1, f"/{leaks.PREFIX}-cri/{name}"), (2, security)])
        metadata = encode([(1, name), (2, name), (3, "default")])
        config = encode([(1, metadata), (3, str(logs)), (8, linux)])
        id = self.call("RunPodSandbox", [(1, config), (2, HANDLER)])[1].decode()
        self.pods.append(id)
        if shared_pids:
            self.shared_pids.add(id)
        return id, config

    def container(self, pod: tuple[str, bytes], name: str, *words: str, memory: int = 0) -> str:
        """Create and start a container in a pod: its id."""
        resources = encode([(4, memory)]) if memory else b""
        pids = _POD if pod[0] in self.shared_pids else _CONTAINER
        security = encode([(3, encode([(1, _NODE), (2, pids), (3, _POD)]))])
        fields = [(1, encode([(1, name)])), (2, encode([(1, image.NAME)]))]
        fields += [(3, word) for word in words]
        fields += [(6, encode([(1, "NAME"), (2, name)])), (11, f"{name}.log")]
        fields += [(15, encode([(1, resources), (2, security)]))]
        id = self.call("CreateContainer", [(1, pod[0]), (2, encode(fields)), (3, pod[1])])[1].decode()
        self.call("StartContainer", [(1, id)])
        return id

    def exec(self, container: str, *words: str) -> tuple[int, str]:
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

    def info(self, container: str) -> dict[str, Any]:
        """What containerd tells of a container when asked for more."""
        found = self.call("ContainerStatus", [(1, container), (2, True)])
        return json.loads(dict(parse(found[2]))[2])

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
        self.channel.close()
        self.daemon.stop()
        self.network.close()
        # The cgroups of pods are the kubelet's to make and to remove.
        for top in leaks.hierarchies():
            for path in Path(top).glob(f"{leaks.PREFIX}-cri/*/"):
                if path.is_dir():
                    path.rmdir()
        leaks.remove_cgroup_parent(f"/{leaks.PREFIX}-cri")
