"""The messages of proto/*.proto as types. Made by tools/compile-messages.py: do not edit.

A decoded message has all its fields; one to be sent may leave out those that are unset.
"""

from typing import TypedDict

class AnyMessage(TypedDict, total=False):
    type_url: str
    value: bytes

class BlkioEntryV1(TypedDict, total=False):
    op: str
    device: str
    major: int
    minor: int
    value: int

class BlkioV1(TypedDict, total=False):
    io_service_bytes_recursive: list[BlkioEntryV1]
    io_serviced_recursive: list[BlkioEntryV1]
    io_queued_recursive: list[BlkioEntryV1]
    io_service_time_recursive: list[BlkioEntryV1]
    io_wait_time_recursive: list[BlkioEntryV1]
    io_merged_recursive: list[BlkioEntryV1]
    io_time_recursive: list[BlkioEntryV1]
    sectors_recursive: list[BlkioEntryV1]

class BootstrapParams(TypedDict, total=False):
    instance_id: str
    namespace: str
    log_level: int
    containerd_version: str
    ttrpc_address: str
    grpc_address: str
    binary: str
    extensions: list[Extension]
    socket_dir: str

class CheckpointOptions(TypedDict, total=False):
    exit: bool
    open_tcp: bool
    external_unix_sockets: bool
    terminal: bool
    file_locks: bool
    empty_namespaces: list[str]
    cgroups_mode: str
    image_path: str
    work_path: str

class CheckpointTaskRequest(TypedDict, total=False):
    id: str
    path: str
    options: AnyMessage | None

class CloseIORequest(TypedDict, total=False):
    id: str
    exec_id: str
    stdin: bool

class ConnectResponse(TypedDict, total=False):
    shim_pid: int
    task_pid: int
    version: str

class ContainerRequest(TypedDict, total=False):
    id: str

class CpuUsageV1(TypedDict, total=False):
    total: int
    kernel: int
    user: int
    per_cpu: list[int]

class CpuV1(TypedDict, total=False):
    usage: CpuUsageV1 | None
    throttling: ThrottleV1 | None

class CpuV2(TypedDict, total=False):
    usage_usec: int
    user_usec: int
    system_usec: int
    nr_periods: int
    nr_throttled: int
    throttled_usec: int

class CreateOptions(TypedDict, total=False):
    no_pivot_root: bool
    no_new_keyring: bool
    shim_cgroup: str
    io_uid: int
    io_gid: int
    criu_work_path: str
    criu_image_path: str

class CreateTaskRequest(TypedDict, total=False):
    id: str
    bundle: str
    rootfs: list[Mount]
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    checkpoint: str
    parent_checkpoint: str
    options: AnyMessage | None

class DeleteResponse(TypedDict, total=False):
    pid: int
    exit_status: int
    exited_at: Timestamp | None

class Empty(TypedDict, total=False): ...

class Envelope(TypedDict, total=False):
    timestamp: Timestamp | None
    namespace: str
    topic: str
    event: AnyMessage | None

class ExecProcessRequest(TypedDict, total=False):
    id: str
    exec_id: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    spec: AnyMessage | None

class Extension(TypedDict, total=False):
    value: AnyMessage | None

class ForwardRequest(TypedDict, total=False):
    envelope: Envelope | None

class GenericOptions(TypedDict, total=False):
    type_url: str
    config_path: str
    config_body: bytes

class HugetlbV1(TypedDict, total=False):
    usage: int
    max: int
    failcnt: int
    pagesize: str

class HugetlbV2(TypedDict, total=False):
    current: int
    max: int
    pagesize: str

class IoEntryV2(TypedDict, total=False):
    major: int
    minor: int
    rbytes: int
    wbytes: int
    rios: int
    wios: int

class IoV2(TypedDict, total=False):
    usage: list[IoEntryV2]

class KeyValue(TypedDict, total=False):
    key: str
    value: str

class KillRequest(TypedDict, total=False):
    id: str
    exec_id: str
    signal: int
    all: bool

class MemoryEntryV1(TypedDict, total=False):
    limit: int
    usage: int
    max: int
    failcnt: int

class MemoryEventsV2(TypedDict, total=False):
    low: int
    high: int
    max: int
    oom: int
    oom_kill: int

class MemoryV1(TypedDict, total=False):
    cache: int
    rss: int
    rss_huge: int
    mapped_file: int
    dirty: int
    writeback: int
    pg_pg_in: int
    pg_pg_out: int
    pg_fault: int
    pg_maj_fault: int
    inactive_anon: int
    active_anon: int
    inactive_file: int
    active_file: int
    unevictable: int
    hierarchical_memory_limit: int
    hierarchical_swap_limit: int
    total_cache: int
    total_rss: int
    total_rss_huge: int
    total_mapped_file: int
    total_dirty: int
    total_writeback: int
    total_pg_pg_in: int
    total_pg_pg_out: int
    total_pg_fault: int
    total_pg_maj_fault: int
    total_inactive_anon: int
    total_active_anon: int
    total_inactive_file: int
    total_active_file: int
    total_unevictable: int
    usage: MemoryEntryV1 | None
    swap: MemoryEntryV1 | None
    kernel: MemoryEntryV1 | None
    kernel_tcp: MemoryEntryV1 | None

class MemoryV2(TypedDict, total=False):
    anon: int
    file: int
    kernel_stack: int
    slab: int
    sock: int
    shmem: int
    file_mapped: int
    file_dirty: int
    file_writeback: int
    anon_thp: int
    inactive_anon: int
    active_anon: int
    inactive_file: int
    active_file: int
    unevictable: int
    slab_reclaimable: int
    slab_unreclaimable: int
    pgfault: int
    pgmajfault: int
    workingset_refault: int
    workingset_activate: int
    workingset_nodereclaim: int
    pgrefill: int
    pgscan: int
    pgsteal: int
    pgactivate: int
    pgdeactivate: int
    pglazyfree: int
    pglazyfreed: int
    thp_fault_alloc: int
    thp_collapse_alloc: int
    usage: int
    usage_limit: int
    swap_usage: int
    swap_limit: int
    max_usage: int
    swap_max_usage: int

class MetricsV1(TypedDict, total=False):
    hugetlb: list[HugetlbV1]
    pids: PidsV1 | None
    cpu: CpuV1 | None
    memory: MemoryV1 | None
    blkio: BlkioV1 | None
    rdma: RdmaV1 | None
    memory_oom_control: OomControlV1 | None

class MetricsV2(TypedDict, total=False):
    pids: PidsV1 | None
    cpu: CpuV2 | None
    memory: MemoryV2 | None
    rdma: RdmaV1 | None
    io: IoV2 | None
    hugetlb: list[HugetlbV2]
    memory_events: MemoryEventsV2 | None

class Mount(TypedDict, total=False):
    type: str
    source: str
    target: str
    options: list[str]

class OomControlV1(TypedDict, total=False):
    oom_kill_disable: int
    under_oom: int
    oom_kill: int

class Options(TypedDict, total=False):
    no_pivot_root: bool
    no_new_keyring: bool
    shim_cgroup: str
    io_uid: int
    io_gid: int
    binary_name: str
    root: str
    systemd_cgroup: bool
    criu_image_path: str
    criu_work_path: str

class PidResponse(TypedDict, total=False):
    pid: int

class PidsResponse(TypedDict, total=False):
    processes: list[ProcessInfo]

class PidsV1(TypedDict, total=False):
    current: int
    limit: int

class ProcessDetails(TypedDict, total=False):
    exec_id: str

class ProcessInfo(TypedDict, total=False):
    pid: int
    info: AnyMessage | None

class ProcessRequest(TypedDict, total=False):
    id: str
    exec_id: str

class RdmaEntry(TypedDict, total=False):
    device: str
    hca_handles: int
    hca_objects: int

class RdmaV1(TypedDict, total=False):
    current: list[RdmaEntry]
    limit: list[RdmaEntry]

class Request(TypedDict, total=False):
    service: str
    method: str
    payload: bytes
    timeout_nano: int
    metadata: list[KeyValue]

class ResizePtyRequest(TypedDict, total=False):
    id: str
    exec_id: str
    width: int
    height: int

class Response(TypedDict, total=False):
    status: Status | None
    payload: bytes

class RuntimeInfo(TypedDict, total=False):
    name: str
    version: RuntimeVersion | None
    options: AnyMessage | None
    features: AnyMessage | None
    annotations: dict[str, str]

class RuntimeVersion(TypedDict, total=False):
    version: str
    revision: str

class ShutdownRequest(TypedDict, total=False):
    id: str
    now: bool

class StateResponse(TypedDict, total=False):
    id: str
    bundle: str
    pid: int
    status: int
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int
    exited_at: Timestamp | None
    exec_id: str

class StatsResponse(TypedDict, total=False):
    stats: AnyMessage | None

class Status(TypedDict, total=False):
    code: int
    message: str

class TaskCheckpointed(TypedDict, total=False):
    container_id: str
    checkpoint: str

class TaskCreate(TypedDict, total=False):
    container_id: str
    bundle: str
    rootfs: list[Mount]
    io: TaskIO | None
    checkpoint: str
    pid: int

class TaskDelete(TypedDict, total=False):
    container_id: str
    pid: int
    exit_status: int
    exited_at: Timestamp | None
    id: str

class TaskExecAdded(TypedDict, total=False):
    container_id: str
    exec_id: str

class TaskExecStarted(TypedDict, total=False):
    container_id: str
    exec_id: str
    pid: int

class TaskExit(TypedDict, total=False):
    container_id: str
    id: str
    pid: int
    exit_status: int
    exited_at: Timestamp | None

class TaskIO(TypedDict, total=False):
    stdin: str
    stdout: str
    stderr: str
    terminal: bool

class TaskOOM(TypedDict, total=False):
    container_id: str

class TaskPaused(TypedDict, total=False):
    container_id: str

class TaskResumed(TypedDict, total=False):
    container_id: str

class TaskStart(TypedDict, total=False):
    container_id: str
    pid: int

class ThrottleV1(TypedDict, total=False):
    periods: int
    throttled_periods: int
    throttled_time: int

class Timestamp(TypedDict, total=False):
    seconds: int
    nanos: int

class UpdateTaskRequest(TypedDict, total=False):
    id: str
    resources: AnyMessage | None
    annotations: dict[str, str]

class WaitResponse(TypedDict, total=False):
    exit_status: int
    exited_at: Timestamp | None
