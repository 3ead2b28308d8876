"""What can go wrong at a user's hands. The command line turns each of these into one line and exit code 2."""


class SpikeletError(ValueError):
    """Bad input: the message names the argument, what was given and what is allowed."""


class DataError(SpikeletError):
    """A data set or recording that is missing, truncated or damaged."""


class ConversionError(SpikeletError):
    """A network that cannot become an integer network; the message names the layer and why."""


class FormatError(SpikeletError):
    """A file that is not what it should be: a checkpoint or an integer network, damaged or foreign."""
