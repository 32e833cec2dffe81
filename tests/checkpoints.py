"""Where the tiny checkpoints are."""

from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
