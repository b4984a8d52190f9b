"""The one exception that is meant for the user's eyes."""


class UserError(Exception):
    """A mistake that the user can mend: what was got, what was expected, where, and the fix.

    A stage that raises it ends with the message alone, without a traceback.
    """
