"""What the Python tests share: the places of things, and an environment without network or run-time compilers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Before any test imports them: transformers must not look for a hub, and its torch.compile decorators must run the
# formulas as they are written, without a C++ compiler behind the test's back.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"

ROOT = Path(__file__).resolve().parents[2]
for _folder in ("examples/shakespeare", "examples/digits", "examples/text"):
    sys.path.insert(0, str(ROOT / _folder))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shakespeare_model() -> Path:
    """The bundled trained checkpoint."""
    return ROOT / "examples" / "shakespeare" / "model"
