"""Prints the table of operations of entry `forward` in a code section: operations.py PACKAGE TARGET."""

import sys

from setun import _setun

package = _setun.Package(sys.argv[1], sys.argv[2], ",".join(_setun.Package(sys.argv[1]).targets[-1]["features"]))
for item in package.operations("forward"):
    print(
        f"{item['kind']} '{item['detail']}' [{item['shape']}] rows {item['rows']}, weights {item['weight_bytes']}, "
        f"int8 {item['int8_macs']}"
    )
