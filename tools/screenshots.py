"""Makes the pictures of docs/: pages of our own, as a browser without a window shows them.

    python tools/screenshots.py

Needs chromium-headless-shell, chromium or google-chrome (Debian: apt-get install chromium-headless-shell).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from support import config as configs  # noqa: E402


def bundle(folder: Path) -> Path:
    """Return a bundle that has a little of everything: nothing of it is run."""
    config: dict[str, Any] = configs.default(["/usr/sbin/nginx", "-g", "daemon off;"])
    configs.map_ids(config)
    configs.bind(config, "/srv/www", "/usr/share/nginx/html", "ro")
    config["process"]["user"] = {"uid": 101, "gid": 101}
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]
    config["root"]["readonly"] = True
    config["hooks"] = {"createRuntime": [{"path": "/usr/libexec/net", "args": ["net", "up"]}]}
    config["linux"]["cgroupsPath"] = "/web/nginx"
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}}
    config["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80"}
    config["linux"]["maskedPaths"] = ["/proc/kcore", "/sys/firmware"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def take(browser: str, page: Path, picture: Path, *, width: int, height: int) -> None:
    """A picture of a page. Raises CalledProcessError."""
    flags = ["--no-sandbox", "--headless", "--hide-scrollbars", "--force-color-profile=srgb"]
    size = f"--window-size={width},{height}"
    subprocess.run(
        [browser, *flags, size, f"--screenshot={picture}", page.as_uri()],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """Make docs/images/explain.png."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser: one of {', '.join(BROWSERS)} is needed")
    with tempfile.TemporaryDirectory(prefix="web-") as name:
        folder = Path(name) / "nginx"
        folder.mkdir()
        page = folder / "page.html"
        program = "from pyruntime.cli.main import main; main()"
        command = [sys.executable, "-c", program, "explain", "--format", "html", str(bundle(folder))]
        text = subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT).stdout
        page.write_bytes(text.replace(os.fsencode(name), b"/run/bundles"))
        take(browser, page, CHECKOUT / "docs/images/explain.png", width=1180, height=1560)


if __name__ == "__main__":
    main()
