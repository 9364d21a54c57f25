"""The one error a user is meant to read."""


class FullcountError(Exception):
    """Bad input or bad use: one sentence that names the file, line or column, and the mend.

    The command line prints the sentence and exits with code 2; nothing has been changed on disk.
    """
