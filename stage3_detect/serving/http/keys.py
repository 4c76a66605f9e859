"""API keys: random keys, of which a file holds the SHA-256 only."""

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from cxr.config import UserError
from stage3_detect.serving.http.errors import Refusal

log = logging.getLogger("raybox")

_PREFIX = "raybox_"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANDOM_BYTES = 32


class KeyRing:
    """The keys that a service accepts. A key has 256 random bits, so that its plain SHA-256 cannot be guessed."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        """digests: name of a key -> SHA-256 of the key, in hex."""
        self._digests = {name: digest.encode() for name, digest in digests.items()}

    def name_of(self, key: str) -> str | None:
        """The name of a key, or None for an unknown key. Takes the same time for each."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest().encode()
        matches = [name for name, known in self._digests.items() if hmac.compare_digest(digest, known)]
        return matches[0] if matches else None

    def check(self, headers: Mapping[str, str]) -> str:
        """The name of the key in the header `Authorization: Bearer KEY`.

        Raises:
            Refusal: 401.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        name = self.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is None:
            sentence = "This service needs an API key: send the header Authorization: Bearer KEY."
            raise Refusal(401, "key", sentence, headers={"WWW-Authenticate": "Bearer"})
        return name


class KeyFile:
    """The keys of a file, which is read again when it changes: keys can be withdrawn from a running service."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: as `read_keys`.
        """
        self._path = path
        self._version = self._stat()
        self._keys = read_keys(path)

    def check(self, headers: Mapping[str, str]) -> str:
        """The name of the key in the headers.

        Raises:
            Refusal: 401.
        """
        version = self._stat()
        if version != self._version:
            self._version = version
            self._read_again()
        return self._keys.check(headers)

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _read_again(self) -> None:
        """An editor may write the file in parts, so a file that is damaged now leaves the keys as they were. A file
        without a key is not damaged: it withdraws all."""
        try:
            digests = _digests_in(self._path)
        except (UserError, OSError) as error:
            problems = error.problems if isinstance(error, UserError) else [f"{self._path}: {error.strerror}"]
            log.error("API keys: the former ones stay valid: %s", "; ".join(problems))
            return
        self._keys = KeyRing(digests)
        if not digests:
            log.warning("API keys: %s has no key, so all requests are refused", self._path)


def read_keys(path: Path) -> KeyRing:
    """Read a file of lines `NAME SHA256`; empty lines and lines that begin with # are skipped.

    Raises:
        UserError: no such file, no key in it, or lines that are not of that form (all of them named).
    """
    digests = _digests_in(path)
    if not digests:
        raise UserError(f"{path}: no key; add one with: serve.py --new-key {path} NAME")
    return KeyRing(digests)


def _digests_in(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of each key; empty for a file without a key. UserError as `read_keys`."""
    if not path.is_file():
        raise UserError(f"--api-keys: no file {path}; create it with: serve.py --new-key {path} NAME")
    digests: dict[str, str] = {}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, digest = line.strip().partition(" ")
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest) or name in digests:
            problems.append(f"{path}: line {number}: expected a new NAME and a SHA-256, as --new-key writes them")
        digests[name] = digest
    if problems:
        raise UserError(problems)
    return digests


def add_key(path: Path, name: str) -> str:
    """Draw a key, append its name and hash to the file, and return the key. It is stored nowhere else.

    Raises:
        UserError: a bad name, or a name that the file already has.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--new-key: got the name {name!r}, expected 1 to 40 letters, digits, dots, - or _")
    there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if any(line.split(" ")[0] == name for line in there.splitlines()):
        raise UserError(f"--new-key: {path} already has a key named {name}; give another name or delete its line")
    key = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    line = ("" if not there or there.endswith("\n") else "\n") + f"{name} {digest}\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(line)
    return key
