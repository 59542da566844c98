"""full.py SIZE COMMAND...: runs a command in the folder of a small file system, where temporary files go as well, and
lists what is left in the folder ("left: nothing"). Where there can be no such file system, it is "passed over"."""

import os
import subprocess
import sys
import tempfile


def inside(size: str, folder: str, command: list[str]) -> None:
    """In a mount namespace of its own; `size` as of tmpfs."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        print("passed over: no file system can be mounted here")
    else:
        subprocess.run(command, cwd=folder, env=os.environ | {"TMPDIR": folder}, check=False)
    print(f"left: {', '.join(os.listdir(folder)) or 'nothing'}")


def main() -> None:
    if sys.argv[1] == "--inside":
        inside(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    with tempfile.TemporaryDirectory() as folder:
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
            print("passed over: no mount namespace can be made here\nleft: nothing")
            return
        again = [sys.executable, __file__, "--inside", sys.argv[1], folder, *sys.argv[2:]]
        subprocess.run([*own, *again], check=True)


if __name__ == "__main__":
    main()
