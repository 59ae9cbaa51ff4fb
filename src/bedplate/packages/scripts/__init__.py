"""The script ledger: what maintainer scripts and scriptlets would do at first installation, and what does it instead.

``shell`` parses, ``evaluate`` follows the paths a first installation takes, ``kinds`` names what each command is for,
``ledger`` holds that against the definition's facts and a person's verdicts.
"""
