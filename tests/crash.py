"""The end of a process, for tests that run the product in their own: nothing of the product catches it."""


class Crash(BaseException):
    """The process dies here."""
