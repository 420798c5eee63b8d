"""The one exception for a user's mistake: the command line prints it as a single line and exits with code 2."""


class UserError(Exception):
    """Something the user can mend: a recipe key, a file, a folder, an option.

    The message is one line: the place, what is wrong there, and how to mend it.
    """
