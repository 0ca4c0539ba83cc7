"""TPC-H's rows as Parquet files, made by `tpchgen-cli`. Knows nothing of the ERP."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from etl_resources.errors import PermanentError

GENERATOR = "tpchgen-cli"
TABLES = ("region", "nation", "customer", "orders", "lineitem")
GENERATE_TIMEOUT_S = 3600


def generate(scale: float, folder: Path, tables: Sequence[str] = TABLES) -> None:
    """Write {folder}/{table}.parquet for each of `tables`; scale 1 is 6 million lines and 300 MB.

    Raises PermanentError when the generator is missing, fails or takes longer than GENERATE_TIMEOUT_S.
    """
    command = [str(_executable()), "parquet", "--scale-factor", format(scale, "f"), "--quiet"]
    command += ["--tables", ",".join(tables), "--output-dir", str(folder), "--overwrite"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GENERATE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise PermanentError(
            f"{GENERATOR} took longer than {GENERATE_TIMEOUT_S} s at scale {scale:g}. Use a smaller scale."
        ) from e
    if done.returncode == 0:
        return
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if "No space left" in done.stderr:
        raise PermanentError(
            f"The disk of {folder} is full: TPC-H at scale {scale:g} needs about {scale * 300:.0f} MB there "
            f"and {scale * 2000:.0f} MB in Postgres. Free some space or use a smaller scale."
        )
    raise PermanentError(f"{GENERATOR} failed at scale {scale:g}: {reason}. Check the scale and {folder}.")


def _executable() -> Path:
    beside = Path(sys.executable).parent / GENERATOR
    if beside.exists():
        return beside
    found = shutil.which(GENERATOR)
    if found is None:
        raise PermanentError(f"{GENERATOR} is not installed. Install the package tpchgen-cli, then run again.")
    return Path(found)
