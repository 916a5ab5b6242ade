"""Several hosts on one machine: network namespaces of their own, joined by a bridge."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator

__all__ = ["Network", "network", "possible"]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def possible() -> bool:
    """Whether this machine lets us have network namespaces: root on Linux, with iproute2."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"ep{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "delete", name)
    return made


class Network:
    """This machine is its first host; `add` makes others."""

    def __init__(self) -> None:
        self._tag = f"{random.SystemRandom().randrange(16**4):04x}"
        self._prefix = f"10.{random.SystemRandom().randrange(100, 250)}.{random.SystemRandom().randrange(250)}"
        self._bridge = f"epb{self._tag}"
        self._hosts: list[str] = []
        self.address = f"{self._prefix}.1"
        """Of this machine."""
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @property
    def range(self) -> str:
        """All of its addresses."""
        return f"{self._prefix}.0/24"

    def add(self, name: str) -> str:
        """Another host; its address."""
        self._hosts.append(name)
        space, outer, inner = f"{name}-{self._tag}", self._outer(name), f"epi{len(self._hosts)}{self._tag}"
        address = f"{self._prefix}.{len(self._hosts) + 1}"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "master", self._bridge, "up")
        _ip("link", "set", inner, "netns", space)
        _ip("-n", space, "address", "add", f"{address}/24", "dev", inner)
        for device in (inner, "lo"):
            _ip("-n", space, "link", "set", device, "up")
        _ip("-n", space, "route", "add", "default", "via", self.address)  # some ask for it to learn their own address
        return address

    def on(self, name: str) -> list[str]:
        """What a command begins with to run on this host."""
        return ["ip", "netns", "exec", f"{name}-{self._tag}"]

    def cut_off(self, name: str) -> None:
        """Nothing reaches this host any more, and it reaches nobody: no answer, no refusal."""
        _ip("link", "set", self._outer(name), "down")

    def join_again(self, name: str) -> None:
        """As before."""
        _ip("link", "set", self._outer(name), "up")

    def close(self) -> None:
        """Remove it all."""
        for name in self._hosts:
            _ip("netns", "delete", f"{name}-{self._tag}")
        _ip("link", "delete", self._bridge)

    def _outer(self, name: str) -> str:
        return f"epo{self._hosts.index(name) + 1}{self._tag}"


@contextlib.contextmanager
def network(*hosts: str) -> Iterator[tuple[Network, dict[str, str]]]:
    """A network of this machine and these hosts, and their addresses."""
    with contextlib.closing(Network()) as made:
        yield made, {name: made.add(name) for name in hosts}
