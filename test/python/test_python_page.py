"""The programs of docs/python.md, run as one, from a folder of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from setun import _compiler, _setun  # noqa: F401  (without these modules there is nothing to run)


def test_the_programs_of_the_page(root: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (root / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    # From a file, for locations and torch.compile want the source.
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks))
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    command = [sys.executable, program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SetunWarning" not in done.stderr
    assert "hidden.weight" in done.stdout
