"""The units on a machine whose process 1 is systemd, installed, started and upgraded as the pages say: `make machine`.

The machine is Debian in a container of systemd-nspawn, with this machine's network. That takes root, the network and
minutes, so it runs only where it is asked for.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.client import Client
from service.domain.experiment import Spec
from tests.acceptance.documentation import ROOT, SECONDS, apart, ends
from tests.acceptance.test_containers import checkout_files

pytestmark = [
    pytest.mark.timeout(4 * SECONDS),
    pytest.mark.skipif("EPOCHD_TEST_MACHINE" not in os.environ, reason="wants a machine with systemd: make machine"),
]

INSTALL, START, AS_EPOCHD = apart("operations.md", __file__)
(UPGRADE,) = apart("upgrading.md", __file__)
URL = "http://127.0.0.1:8000"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,curl,ca-certificates"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")


class Machine:
    """Debian with systemd, and checkouts of two versions."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)  # it becomes the root, which everybody has to read
        self._process: subprocess.Popen[bytes] | None = None
        self._debootstrap()
        for version in ("0.1.0", "0.2.0"):
            self._check_out(version)
        shutil.copyfile(mnist, folder / "srv" / "mnist.npz")
        (folder / "srv" / "mnist.npz").chmod(0o644)
        shutil.copyfile("/" / CERTIFICATES, folder / CERTIFICATES)  # whom this machine trusts

    def start(self) -> None:
        """Have its process 1 start all that it should."""
        self._process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
             f"--directory={self.folder}"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._init = self._process_one(self._process)
        self.paste("until test -S /run/systemd/private; do sleep 0.1; done; systemctl is-system-running --wait")

    def _debootstrap(self) -> None:
        lists = [path for path in Path("/etc/apt").rglob("*") if path.suffix in {".list", ".sources"}]
        sources = "\n".join(path.read_text() for path in lists)
        mirror = re.search(r"https?://\S+/debian/?(?=\s)", sources)
        make = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(self.folder)]
        subprocess.run(make + ([mirror[0]] if mirror else []), check=True, stdout=subprocess.DEVNULL)

    def _check_out(self, version: str) -> None:
        """A checkout that calls itself so."""
        checkout = self.folder / "srv" / version
        for name in checkout_files():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, checkout / name)
        about = checkout / "pyproject.toml"
        about.write_text(re.sub(r'^version = ".*"$', f'version = "{version}"', about.read_text(), flags=re.MULTILINE))

    def _process_one(self, nspawn: "subprocess.Popen[bytes]") -> int:
        """Which the machine has as 1, as this machine numbers it."""
        while True:
            assert nspawn.poll() is None
            for child in psutil.Process(nspawn.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if child.name() == "systemd":
                        return child.pid
            time.sleep(0.1)

    def paste(self, block: str, version: str = "0.1.0") -> str:
        """Run a block of a page there, as root, in the checkout of a version; what it prints."""
        script = self.folder / "srv" / "block"
        script.write_text(f"set -euo pipefail\ncd /srv/{version}\n{block}")
        environment = f"env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT=/{CERTIFICATES}"
        return ends(f"nsenter --target {self._init} --all {environment} bash /srv/block", ROOT)

    def client(self, key: str) -> Client:
        return Client(URL, api_key=key)

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()  # which shuts down what it runs
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Machine]:
    with closing(Machine(tmp_path_factory.mktemp("machine"), mnist_dir / "mnist.npz")) as machine:
        machine.start()
        yield machine


def test_it_is_installed_started_used_and_upgraded(machine: Machine) -> None:
    machine.paste(INSTALL)
    machine.paste("echo EPOCHD_MNIST_PATH=/srv/mnist.npz >> /etc/epochd/epochd.env")
    assert machine.paste(START).endswith('{"status":"ok"}')

    told = machine.paste(AS_EPOCHD)
    assert "0 missing, 0 damaged" in told
    (key,) = re.findall(r"^epochd_\S+$", told, re.MULTILINE)
    with closing(machine.client(key)) as client:
        assert client.create(Spec(activation="relu", depth=1, epochs=1)).wait(timeout=SECONDS).status == "succeeded"

        under_way = client.create(Spec(activation="relu", depth=3, units=256, epochs=20, batch_size=50))
        next(iter(under_way.epochs()))
        machine.paste(UPGRADE, "0.2.0")
        machine.paste(START.splitlines()[-1])  # it answers again
        assert under_way.wait(timeout=SECONDS).status == "succeeded"
    about = httpx.get(f"{URL}/openapi.json", headers={"Authorization": f"Bearer {key}"}).raise_for_status().json()
    assert about["info"]["version"] == "0.2.0"
    assert machine.paste("systemctl list-units --failed --plain --no-legend") == ""
    assert machine.paste("find /var/lib/epochd /var/backups/epochd ! -user epochd") == ""
