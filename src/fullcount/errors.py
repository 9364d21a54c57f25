"""The one error a user is meant to read."""

import sys
from collections.abc import Callable


class FullcountError(Exception):
    """Bad input or bad use: one sentence that names the file, line or column, and the mend.

    The command line prints the sentence and exits with code 2; nothing has been changed on disk.
    """


def told(main: Callable[[], None]) -> None:
    """Run a program; a FullcountError ends it with "error: SENTENCE" and exit code 2."""
    try:
        main()
    except FullcountError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
