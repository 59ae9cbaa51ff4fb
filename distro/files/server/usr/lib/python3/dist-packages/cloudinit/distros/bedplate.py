"""cloud-init's view of a Bedplate server: Fedora's, but a host name is written; no message bus is up that early."""

from __future__ import annotations

from typing import Any

from cloudinit import util
from cloudinit.distros import fedora


class Distro(fedora.Distro):
    """dnf, sshd and chrony are where Fedora has them."""

    def __init__(self, _name: str, cfg: dict[str, Any], paths: Any) -> None:
        # Modules and templates are chosen by this name.
        super().__init__("fedora", cfg, paths)

    def _write_hostname(self, hostname: str, filename: str) -> None:
        # hostnamectl asks a service on the message bus, which starts after the stages that name the machine. The
        # caller sets the running kernel's name itself; whoever asks hostnamed later is given what this file says.
        if filename == self.hostname_conf_fn:
            filename = self.systemd_hostname_conf_fn
        if filename != self.systemd_hostname_conf_fn or self.get_option("create_hostname_file", True):
            util.write_file(filename, f"{hostname}\n", 0o644)
