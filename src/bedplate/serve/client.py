"""The API from a program: what ``bedplate fleet`` speaks to the service with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from bedplate.model.errors import BadInput, BedplateError
from bedplate.serve.people import Conflict, NotThere

_KINDS: Mapping[int, type[BedplateError]] = {400: BadInput, 404: NotThere, 409: Conflict}


class ServiceClient:
    """One service, as one person.

    Args:
        url: Address of the service, such as ``https://updates.example``.
        token: The person's token.

    Raises:
        BadInput: the address is not one.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput("not the address of a service", where=url[:80], remedy="write https://HOST")
        self._client = httpx.Client(
            base_url=url.rstrip("/"), headers={"authorization": f"Bearer {token}"}, timeout=timeout
        )
        self._url = url

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """One request; the answer's JSON, None for an empty one.

        Raises:
            BadInput, NotThere, Conflict, BedplateError: what the service says is wrong, in its own words.
        """
        asked = {name: value for name, value in query.items() if value not in ("", None)}
        try:
            answer = self._client.request(method, path, json=body, params=asked)
        except httpx.HTTPError as error:
            raise BedplateError(
                f"the service does not answer ({error})", where=self._url, remedy="see that it runs: GET /healthz"
            ) from error
        if answer.status_code == 204:
            return None
        try:
            data = answer.json()
        except ValueError:
            data = {"error": answer.text[:200] or answer.reason_phrase}
        if answer.is_success:
            return data
        kind = _KINDS.get(answer.status_code, BedplateError)
        known = data if isinstance(data, dict) else {}
        raise kind(
            str(known.get("error", "the service refused")),
            where=str(known.get("where", "")),
            remedy=str(known.get("remedy", "")),
            details=[str(one) for one in known.get("details", [])],
        )

    def nodes(self, **query: Any) -> Iterator[dict[str, Any]]:
        """Every node the query fits, page by page."""
        after = ""
        while True:
            page = self.call("GET", "/api/v1/nodes", **query, after=after, limit=1000)
            yield from page["nodes"]
            after = page["next"]
            if not after:
                return

    def close(self) -> None:
        """End the connection."""
        self._client.close()
