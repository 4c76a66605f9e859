"""Where the repository's files are, for tests that run its scripts or read its settings."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
