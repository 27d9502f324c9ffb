"""The one exception that a page shows."""


class HeadlightError(Exception):
    """What happened and what to do about it, in words that can be shown as they are."""


class Stopped(HeadlightError):
    """The work was stopped on request."""
