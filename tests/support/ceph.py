"""Ceph's gateway for S3 on loopback: a monitor, one OSD that keeps its data in memory, and ``radosgw``.

The programs are in Debian's packages ``ceph-mon``, ``ceph-osd`` and ``radosgw``.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin")
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

_CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon allow pool size one = true
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
pid file =
"""


def missing_programs() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """URL of a running gateway, which knows one user with :data:`KEYS`."""
    fsid, mon_port, port = str(uuid.uuid4()), _free_port(), _free_port()
    config = folder / "ceph.conf"
    config.write_text(_CONFIG.format(fsid=fsid, mon_port=mon_port, folder=folder))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    (folder / "keyring").touch()

    def do(*command: str) -> str:
        done = subprocess.run(
            [command[0], "-c", str(config), *command[1:]], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    with ExitStack() as running:

        def start(*command: str) -> None:
            process = subprocess.Popen(
                [command[0], "-c", str(config), *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            running.callback(process.wait)
            running.callback(process.kill)

        monmap = str(folder / "monmap")
        do("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
        do("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        start("ceph-mon", "-f", "-i", "a")
        osd = str(uuid.uuid4())
        do("ceph", "osd", "new", osd)
        do("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        start("ceph-osd", "-f", "-i", "0")
        user = ("--uid", "test", "--display-name", "test", "--access-key", KEYS["AWS_ACCESS_KEY_ID"])
        do("radosgw-admin", "user", "create", *user, "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"])
        start("radosgw", "-f", "-n", "client.rgw", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        yield url


def _wait_for(url: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            assert time.monotonic() < end, "the gateway did not start"
            time.sleep(0.2)
