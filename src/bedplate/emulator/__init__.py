"""QEMU machines with Secure Boot firmware, a TPM and a console, and what they say about the image they boot."""
