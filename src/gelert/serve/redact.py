"""Takes secrets out of text before it is written down. Every pattern is matched in time linear in the text."""

import re

from gelert.core.trajectory import json_text

KEPT_CHARACTERS = 400
"""Of any one text that is written down, if nothing else is said."""

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*"
    r"|\b(?:sk|pk|rk|ghp|gho|ghs|ghu|xox[abprs]|glpat|hf|npm|pypi|github_pat)[-_][A-Za-z0-9_-]{12,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?i:\bbearer\s{1,4})[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:(?:pass(?:word|wd)?|secret|token|api[_-]?key)[\"']?\s{0,4}[:=]\s{0,4})[\"']?[^\s\"',;&]{4,}"
    r"|(?<=://)[^\s/:@]{1,100}:[^\s/:@]{1,100}(?=@)"
)


def redacted(text: object, most: int = KEPT_CHARACTERS) -> str:
    """The text, at most ``most`` characters of it, with each secret replaced by ``[redacted]``.

    >>> redacted("curl -H 'Authorization: Bearer abcdefgh12345678' https://host")
    "curl -H 'Authorization: [redacted]' https://host"
    """
    # Cut after replacing: a secret that is cut in two would no longer look like one.
    found = _SECRETS.sub("[redacted]", json_text(text)[: 4 * most])
    return found if len(found) <= most else found[:most] + "…"
