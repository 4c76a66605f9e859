"""Headers: those that each answer carries, and checks of those that a browser sends."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.settings import LOOPBACK_HOSTS

RawHeaders = list[tuple[bytes, bytes]]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SECURITY_HEADERS: RawHeaders = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_NO_STORE = (b"cache-control", b"no-store")


def with_security_headers(headers: RawHeaders) -> RawHeaders:
    """The headers of an answer and those of `SECURITY_HEADERS`; no-store unless the answer states its own caching."""
    has_caching = any(name.lower() == b"cache-control" for name, _ in headers)
    return [*headers, *SECURITY_HEADERS, *([] if has_caching else [_NO_STORE])]


def check_host(headers: Mapping[str, str]) -> None:
    """On a loopback address: refuse other host names, with which a web page reaches a local service (DNS rebinding).

    Raises:
        Refusal: 403.
    """
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        host = None
    if host not in LOOPBACK_HOSTS:
        raise Refusal(403, "host", "The Host header does not name this machine; use http://127.0.0.1 or localhost.")


def check_site(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site makes a browser send.

    Raises:
        Refusal: 403.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:  # browsers leave Sec-Fetch-Site out where the page came over plain HTTP from another machine
        is_own = origin is None or _netloc(origin) == headers.get("host", "").lower()
    if not is_own:
        raise Refusal(403, "cross_site", "Requests from pages of another site are refused.")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
