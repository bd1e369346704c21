"""Peak memory of the 40,000-row run: examples/instruct-1k on $TAMIS_DATA, every stage's peak, at most 2,000 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = Path(__file__).resolve().parent.parent / "examples" / "instruct-1k" / "recipe.yaml"


def main() -> None:
    data = os.environ.get("TAMIS_DATA")
    if not data:
        print(
            "set TAMIS_DATA to a folder with alpaca_union/, alpagasus/, code_alpaca/, gpteacher/ and lima/ to run this one"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        command = [
            str(Path(sys.executable).with_name("tamis")),
            "run",
            str(RECIPE),
            "--work",
            str(work),
            "--set",
            f"data={data}",
            "--json",
        ]
        environment = {**os.environ, "TAMIS_CACHE": str(Path(folder) / "cache")}
        rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    for row in rows:
        print(f"{row['stage']:<16} {row['out']:>7,} rows out  {row['seconds']:>7.1f} s  {row['peak_mb']:>6,} MB")
    peak = max(row["peak_mb"] for row in rows)
    print(
        f"{rows[0]['in']:,} rows read, {sum(row['seconds'] for row in rows):.1f} s in all, peak {peak:,} MB (at most 2,000)"
    )


if __name__ == "__main__":
    main()
