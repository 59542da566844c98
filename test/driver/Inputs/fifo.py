"""Runs a command with a named pipe as its output (`-o PIPE`) and prints what comes out of it."""

import os
import stat
import subprocess
import sys
import tempfile

with tempfile.TemporaryDirectory() as folder:
    pipe = os.path.join(folder, "pipe")
    os.mkfifo(pipe)
    with subprocess.Popen([*sys.argv[1:], "-o", pipe]) as process:
        with open(pipe, encoding="utf-8") as file:
            sys.stdout.write(file.read())
        status = process.wait(timeout=60)
    if stat.S_ISFIFO(os.stat(pipe).st_mode):
        print("still a pipe")
sys.exit(status)
