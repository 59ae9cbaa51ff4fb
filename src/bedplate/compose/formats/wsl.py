"""The root's content as a distribution for the Windows Subsystem for Linux: a gzip-compressed tar archive.

systemd runs in it; units that fight with what Windows does for the system (its network, name resolution, temporary
files and devices) are masked. gzip is the tools tree's, so that the bytes are the same everywhere.

Source: Microsoft's "Build a custom Linux distribution for WSL", wsl.conf and wsl-distribution.conf.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from bedplate.compose.formats.base import FormatJob, Origin
from bedplate.compose.formats.content import Extra, tar_stream
from bedplate.toolchain.run import PIPE, ToolError

_MASKED = (
    "systemd-resolved.service", "systemd-networkd.service", "systemd-networkd.socket", "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-clean.service", "systemd-tmpfiles-clean.timer", "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service", "tmp.mount",
)  # fmt: skip
_WSL_CONF = b"[boot]\nsystemd=true\n\n[network]\ngenerateHosts=true\ngenerateResolvConf=true\n"
_WSL_DISTRIBUTION = "[oobe]\ndefaultName={name}\n\n[shortcut]\nenabled=true\n"


class Wsl:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "wsl"
    title = "Windows Subsystem for Linux (wsl --install --from-file)"
    file = "base.wsl"
    origin = Origin.ROOT
    owned_set = ""
    revision = 1

    def write(self, job: FormatJob, target: Path) -> None:
        """See the protocol."""
        arguments = ["-6", "-n", "-c"]
        with target.open("xb") as out, job.root() as system:
            process = job.toolbox.start("gzip", *arguments, stdin=PIPE, stdout=out)
            assert process.stdin is not None and process.stderr is not None
            said: list[bytes] = []
            stderr = process.stderr
            reader = threading.Thread(target=lambda: said.append(stderr.read()))
            reader.start()
            try:
                with process.stdin as pipe:
                    for piece in tar_stream(system, job.epoch, extras(job)):
                        pipe.write(piece)
            except BrokenPipeError:
                pass  # it says why on its standard error
            except BaseException:
                process.kill()
                raise
            finally:
                code = process.wait()
                reader.join()
            if code:
                raise ToolError("gzip", ["gzip", *arguments], code, b"".join(said).decode(errors="replace"))


def extras(job: FormatJob) -> Mapping[str, Extra]:
    """What the archive holds beside the root's content."""
    name = job.labels.get("NAME", job.name).replace(" ", "-")
    return {
        "/etc/wsl.conf": Extra(_WSL_CONF),
        "/etc/wsl-distribution.conf": Extra(_WSL_DISTRIBUTION.format(name=name).encode()),
        # Windows writes these two; a link into systemd-resolved's directory would lead nowhere.
        "/etc/resolv.conf": Extra(b""),
        **{f"/etc/systemd/system/{unit}": Extra(target="/dev/null") for unit in _MASKED},
    }
