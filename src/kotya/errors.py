"""What kotya says when something is wrong. Only the command line catches these."""


class KotyaError(Exception):
    """The person's mistake: what is wrong, where, and what would be right, in one line. Exit code 2."""

    exit_code = 2


class Fault(KotyaError):
    """Something failed that the person did not do (disk full, NaN in the loss). Exit code 1.

    A file or folder that was handed over broken is a KotyaError: another one is what would be right.
    """

    exit_code = 1
