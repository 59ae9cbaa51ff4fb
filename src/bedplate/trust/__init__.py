"""Keys, signers and signatures: who vouches for what, and whether that may count as a release."""
