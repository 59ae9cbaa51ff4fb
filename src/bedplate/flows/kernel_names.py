"""What the packages with signed kernel images are called."""

from __future__ import annotations

from bedplate.model.definition.track import Track


def kernel_package_name(distribution: str, track: str, flavour: str) -> str:
    """What the packages of one flavour are called."""
    return f"{distribution}-{track}-kernel-{flavour}"


def own_kernel_names(distribution: str, track: Track) -> tuple[str, ...]:
    """The kernel package in an image of ``track``: one, or none where its kernel is no package."""
    flavour = track.kernel.flavour
    return (kernel_package_name(distribution, track.id, flavour),) if flavour else ()
