"""The page as it is sent: one file that loads nothing, and the headers that hold it to that."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.responses import HTMLResponse, Response

from gelert.serve.replies import reply

PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of everything that the dashboard sends."""


@cache
def text() -> str:
    """The page."""
    return (resources.files("gelert.serve.dashboard") / "page.html").read_text("utf-8")


def response() -> HTMLResponse:
    """The page with its headers."""
    headers = {
        "content-security-policy": policy(),
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
    return HTMLResponse(text(), headers={**PRIVATE, **headers})


def private(value: object, status: int = 200) -> Response:
    """JSON that no cache keeps."""
    found = reply(value, status)
    found.headers.update(PRIVATE)
    return found


@cache
def policy() -> str:
    """The content security policy: its own script and style by their hashes, and no way from a text to markup."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash('script')}",
            f"style-src {_hash('style')}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(tag: str) -> str:
    (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text(), re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"
