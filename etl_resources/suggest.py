"""The part of an error that says what to write instead."""

import difflib
from collections.abc import Iterable


def hint(given: str, valid: Iterable[str]) -> str:
    """The valid names and the one that was probably meant: did you mean 'a'? Valid: a, b."""
    names = list(valid)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    meant = f"did you mean {near[0]!r}? Valid" if near else "valid"
    return f"{meant}: {', '.join(names) or 'none'}"
