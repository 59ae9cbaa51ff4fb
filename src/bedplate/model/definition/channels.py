"""``distro/channels.toml``: the channels a release passes through, what each demands, and how long metadata holds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from bedplate.model.definition.base import Definition

# Names of the store's own metadata roles and changes.
RESERVED = ("root", "targets", "snapshot", "timestamp", "keys")


class ChannelDefinition(Definition):
    """One channel. ``keys`` says whose signatures it takes: "release" keys alone, or "any", development keys too."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    title: str = ""
    after: str = Field(default="", description="The channel a release must have been published in before")
    keys: Literal["release", "any"] = "release"
    threshold: int = Field(default=1, ge=1, description="Release keys that must sign each change of the channel")
    soak_hours: float = Field(
        default=0.0, ge=0, description="How long a release stays in `after` before it may come here"
    )


class Expiry(Definition):
    """Days until signed metadata is no longer believed. Short for what a machine renews, long for what people sign."""

    root: float = Field(default=365.0, gt=0)
    channel: float = Field(default=365.0, gt=0)
    snapshot: float = Field(default=14.0, gt=0)
    timestamp: float = Field(default=7.0, gt=0)
    release: float = Field(default=365.0, gt=0, description="After so many days a release is offered to nobody")


class Thresholds(Definition):
    """How many keys must sign."""

    root: int = Field(default=1, ge=1, description="Changes of keys, thresholds and channels")
    release: int = Field(default=1, ge=1, description="A release's manifest")


def _default_channels() -> list[ChannelDefinition]:
    return [
        ChannelDefinition(name="edge", title="Every release first", keys="any"),
        ChannelDefinition(name="stable", title="Proven in edge", after="edge"),
        ChannelDefinition(name="lts", title="Proven in stable, changed seldom", after="stable"),
    ]


class Channels(Definition):
    """The channels, in the order a release passes through them."""

    channel: list[ChannelDefinition] = Field(default_factory=_default_channels)
    expiry: Expiry = Expiry()
    thresholds: Thresholds = Thresholds()
    grace_days: float = Field(
        default=30.0, ge=0, description="gc keeps what no channel needs for so many days after it was made"
    )

    @model_validator(mode="after")
    def _order(self) -> Self:
        known: set[str] = set()
        for one in self.channel:
            if one.name in RESERVED:
                raise ValueError(f"a channel cannot be called {one.name!r}")
            if one.name in known:
                raise ValueError(f"two channels are called {one.name!r}")
            if one.after and one.after not in known:
                raise ValueError(f"channel {one.name!r} comes after {one.after!r}, which does not stand before it")
            known.add(one.name)
        return self
