"""Enrolment by a TPM-bound key over the API."""

from __future__ import annotations

from bedplate.serve.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = ()
