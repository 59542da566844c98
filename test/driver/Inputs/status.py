"""status.py STATUS COMMAND...: succeeds if the command ends with this exit status."""

import subprocess
import sys

done = subprocess.run(sys.argv[2:], check=False)
if done.returncode != int(sys.argv[1]):
    sys.exit(f"expected exit status {sys.argv[1]}, got {done.returncode}")
