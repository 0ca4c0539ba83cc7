"""The documented expression of an exact amount in euro: what is tested is what people copy."""

import re
from pathlib import Path

_DOCUMENT = Path(__file__).parents[1] / "docs/exact-amounts.md"


def euro_sql() -> str:
    """SQL expression over `amount` and `rate`."""
    block = re.search(r"```sql\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert block
    return block[1].strip()
