"""Two hosts on this machine: two network namespaces, and between them a cable that can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERFACE = "eth0"


@dataclass(frozen=True)
class Host:
    """A network namespace with one interface, kept by a sleeping process."""

    pid: int
    address: str
    enter: tuple[str, ...]  # the command before a command that is to run there

    def give_up_after(self, retries: int) -> None:
        """How often the host sends again what is not confirmed, before a connection counts as lost."""
        call(*self.enter, "sh", "-c", f"echo {retries} > /proc/sys/net/ipv4/tcp_retries2")

    def start(self, command: list[str], cwd: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """A process of this host, which writes to ``log``; it leads a group of its own."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [*self.enter, *command], cwd=cwd, env=env, stdout=file, stderr=file, start_new_session=True
            )


@dataclass(frozen=True)
class Network:
    """Two hosts, and the switch between them."""

    hosts: tuple[Host, Host]
    switch: Host

    def plug(self, number: int, is_in: bool) -> None:
        """Plug the cable of a host in, or pull it: the host keeps its address and loses all that is sent."""
        call(*self.switch.enter, "ip", "link", "set", f"port{number}", "up" if is_in else "down")


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextmanager
def namespace(*inside: str, address: str = "") -> Iterator[Host]:
    """A new network namespace, made by a user who may: root, or anybody in a user namespace of its own."""
    users = [] if os.geteuid() == 0 or inside else ["--user", "--map-root-user"]
    with subprocess.Popen(
        [*inside, "unshare", *users, "--net", "sh", "-c", "echo; exec sleep 900"], stdout=subprocess.PIPE
    ) as keeper:
        try:
            assert keeper.stdout is not None
            if not keeper.stdout.readline():
                raise OSError("unshare makes no network namespace")
            enter = ["nsenter", "--target", str(keeper.pid), "--net"]
            if os.geteuid() != 0:
                enter += ["--user", "--preserve-credentials"]
            call(*enter, "ip", "link", "set", "lo", "up")
            yield Host(keeper.pid, address, tuple(enter))
        finally:
            keeper.kill()


@contextmanager
def two_hosts() -> Iterator[Network]:
    """Two hosts, 10.77.0.1 and 10.77.0.2, at a switch.

    Raises:
        OSError: this machine does not permit it, or lacks the programs.
    """
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            raise OSError(f"{program} is not installed")
    with ExitStack() as stack:
        try:
            switch = stack.enter_context(namespace())
            inside = () if os.geteuid() == 0 else switch.enter
            hosts = [stack.enter_context(namespace(*inside, address=f"10.77.0.{number + 1}")) for number in range(2)]
            call(*switch.enter, "ip", "link", "add", "name", "switch", "type", "bridge")
            call(*switch.enter, "ip", "link", "set", "switch", "up")
            for number, host in enumerate(hosts):
                port = f"port{number}"
                call(*switch.enter, "ip", "link", "add", "name", port, "type", "veth", "peer", "name", INTERFACE,
                     "netns", str(host.pid))  # fmt: skip
                call(*switch.enter, "ip", "link", "set", port, "master", "switch", "up")
                call(*host.enter, "ip", "address", "add", f"{host.address}/24", "dev", INTERFACE)
                call(*host.enter, "ip", "link", "set", INTERFACE, "up")
            network = Network((hosts[0], hosts[1]), switch)
            call(*hosts[0].enter, "sh", "-c", "command -v ip")
        except subprocess.CalledProcessError as error:
            raise OSError(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error
        yield network
