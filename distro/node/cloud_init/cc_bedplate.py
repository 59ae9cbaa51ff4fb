"""cloud-init's module for the directive ``bedplate:``: a default shell, and a join to a directory."""

from __future__ import annotations

import logging

from cloudinit.cloud import Cloud
from cloudinit.config import Config
from cloudinit.config.schema import MetaSchema
from cloudinit.settings import PER_INSTANCE

from bedplate_join.first_boot import configure

LOG = logging.getLogger(__name__)

meta: MetaSchema = {
    "id": "cc_bedplate",
    "distros": ["all"],
    "frequency": PER_INSTANCE,
    "activate_by_schema_keys": ["bedplate"],
}


def handle(name: str, cfg: Config, cloud: Cloud, args: list[str]) -> None:
    """Called once for each machine, when its packages are installed."""
    if "bedplate" in cfg:
        default_user = cloud.distro.get_default_user()["name"]
        configure(cfg["bedplate"], cfg.get("users"), default_user, LOG)
