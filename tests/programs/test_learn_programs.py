"""learn with real programs: started, used, reloaded and shut down; then the same under what was learnt."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from linux.conftest import CGROUP_PARENT
from support import config as configs
from support import proc
from support.bundle import Bundle
from support.container import Container

pytestmark = pytest.mark.ours

CAPABILITIES = """CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID
CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE""".split()

WEB = """
import http.server, signal, threading, json, sqlite3
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "greeting": greeting}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
greeting = "first"
def reload(*_):
    global greeting
    greeting = open("/etc/greeting").read()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), Page)
signal.signal(signal.SIGHUP, reload)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"""
NGINX = """
user www-data;
worker_processes 2;
error_log stderr;
pid /run/nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 127.0.0.1:80; location / { root /srv; } }
}
"""
POSTGRES = """
set -e
export PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin
rm -rf /tmp/db && initdb -D /tmp/db -A trust >/dev/null
exec postgres -D /tmp/db -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c jit=off
"""


def within(pid: int, code: str) -> str:
    """Run Python of this host in the network namespace of a container."""
    command = ["nsenter", "--target", str(pid), "--net", sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * proc.SLOW)
    return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def get(pid: int, times: int = 1) -> str:
    return within(
        pid,
        "import urllib.request as u\n"
        f"for _ in range({times}): text = u.urlopen('http://127.0.0.1/page', timeout=10).read().decode()\n"
        "print(text)",
    )


def redis(pid: int, *commands: str) -> str:
    lines = "".join(f"{one}\\r\\n" for one in commands)
    return within(
        pid,
        "import socket, time\n"
        "s = socket.create_connection(('127.0.0.1', 6379), 10)\n"
        f"s.sendall(b'{lines}'); s.settimeout(0.5); data = b''\n"
        "try:\n"
        "    while chunk := s.recv(65536): data += chunk\n"
        "except TimeoutError: pass\n"
        "print(data.decode()[:200])",
    )


class Program:
    """args: what is run. drive: use it (pid, send a signal): something that must be the same each time. stop: the
    signal that ends it. user: who runs it."""

    def __init__(
        self, args: list[str], drive: Callable[[int, Callable[[str], None]], object], stop: str, user: int = 0
    ) -> None:
        self.args = args
        self.drive = drive
        self.stop = stop
        self.user = user


def drive_web(pid: int, signal: Callable[[str], None]) -> object:
    proc.wait_until(lambda: "page" in get(pid), "the server answers", 30)
    first = get(pid, 50)
    signal("HUP")
    time.sleep(1)
    return first, get(pid, 50)


def drive_redis(pid: int, signal: Callable[[str], None]) -> object:
    proc.wait_until(lambda: "PONG" in redis(pid, "PING"), "redis answers", 30)
    found = redis(pid, "SET a 1", "INCR a", "LPUSH l x y", "EVAL return(7) 0", "CONFIG SET maxmemory 50mb", "BGSAVE")
    time.sleep(1)
    return found, redis(pid, "GET a", "CONFIG GET maxmemory")


def drive_postgres(pid: int, signal: Callable[[str], None]) -> object:
    def query(sql: str) -> str:
        program = "/usr/lib/postgresql/15/bin/psql"
        command = ["nsenter", "--target", str(pid), "--net", "--mount", "--setuid", "101", program, "-h", "127.0.0.1"]
        done = subprocess.run(
            [*command, "-U", "postgres", "-Atqc", sql, "postgres"], capture_output=True, text=True, timeout=60
        )
        return done.stdout

    proc.wait_until(lambda: query("select 1") == "1\n", "PostgreSQL answers", 60)
    query("create table t as select g, md5(g::text) m from generate_series(1, 50000) g")
    query("create index on t (m)")
    query("checkpoint")
    signal("HUP")
    time.sleep(1)
    query("vacuum analyze t")
    return query("select count(*), min(m) from t"), query("select g from t order by m limit 3")


PROGRAMS = {
    "nginx": Program(["/usr/sbin/nginx", "-c", "/etc/learn.conf", "-g", "daemon off;"], drive_web, "QUIT"),
    "redis": Program(["/usr/bin/redis-server", "--dir", "/tmp", "--save", ""], drive_redis, "TERM"),
    "python": Program(["/usr/bin/python3", "-c", WEB], drive_web, "TERM"),
    "postgres": Program(["/bin/sh", "-c", POSTGRES], drive_postgres, "INT", 101),
}


def session(runtime: Any, box: Container, program: Program, command: list[Any]) -> object:
    """Run the container by `learn` or `run`, use the program and end it: what it answered."""
    file = box.bundle.path / "pid"
    file.unlink(missing_ok=True)
    running = runtime.spawn(*command, "--bundle", box.bundle.path, "--pid-file", file, box.id)
    try:
        proc.wait_until(lambda: file.exists() or running.process.poll() is not None, "the container runs")
        answers = program.drive(int(file.read_text()), lambda name: runtime.run("kill", box.id, name))
    except BaseException as error:
        running.stop()
        raise AssertionError(f"{error}\n{running.stdout}\n{running.stderr}") from error
    runtime.run("kill", box.id, program.stop)
    done = running.wait(60)
    assert done.code == 0, done
    return answers


@pytest.fixture
def box(request: Any, runtime: Any, debian: Path) -> Container:
    """A container of the program that the test names, with docker's capabilities and a root that can be written to."""
    program = PROGRAMS[request.param]
    made = Bundle(runtime.folder / "bundle", debian, configs.default(program.args))
    made.write("etc/learn.conf", NGINX)
    made.write("etc/greeting", "second")
    made.write("srv/page", "a page\n")
    process = made.config["process"]
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    process["user"] = {"uid": program.user, "gid": program.user}
    made.config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
    )
    name = f"pyrt-{request.param}"
    made.config["linux"]["cgroupsPath"] = f"{CGROUP_PARENT}/{name}"
    made.save()
    return Container(runtime, made, name)


@pytest.mark.parametrize(("name", "box"), [(name, name) for name in PROGRAMS], indirect=["box"], ids=list(PROGRAMS))
def test_a_program_runs_under_what_was_learnt(runtime: Any, box: Container, name: str) -> None:
    program = PROGRAMS[name]
    output = runtime.folder / "learnt"
    answers = session(runtime, box, program, ["learn", "--output", output])
    report = json.loads((output / "report.json").read_text())
    profile = json.loads((output / "seccomp.json").read_text())
    allowed = {one for rule in profile["syscalls"] for one in rule["names"]}
    print(name, len(allowed), report["capabilities"]["used"], report["paths"]["root_directories"], report["peaks"])
    again = session(runtime, box, program, ["run", "--config", output / "config.json"])
    assert again == answers
    assert "failed" not in str(answers)
    assert "unshare" not in allowed and "mount" not in allowed and "ptrace" not in allowed


@pytest.mark.parametrize("box", ["python"], indirect=True)
def test_a_call_that_was_not_learnt_fails(runtime: Any, box: Container) -> None:
    output = runtime.folder / "learnt"
    session(runtime, box, PROGRAMS["python"], ["learn", "--output", output])
    config = json.loads((output / "config.json").read_text())
    config["process"]["args"] = ["/usr/bin/python3", "-c", "import os; os.symlink('a', '/tmp/b')"]
    (output / "other.json").write_text(json.dumps(config))
    done = runtime.run("run", "--bundle", box.bundle.path, "--config", output / "other.json", box.id, check=1)
    assert "PermissionError: [Errno 1]" in done.stderr
