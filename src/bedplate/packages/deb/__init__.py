"""Reading Debian binary packages: container, control data, payload, and their mapping to RPM's terms."""
