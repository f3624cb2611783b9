"""The exception tree. Bad data is a value (``Unreadable``, ``Refusal``); an exception is a fault that stops the work.

::

    GelertError              anything the command line prints without a traceback
    ├── InputError           a file, a flag or a value is not what was expected
    │   ├── RecordError      a record on disk; names file and line
    │   ├── TaxonomyError    a taxonomy file; names file and leaf
    │   └── CardError        a guard card and its weights
    ├── MissingError         something is not installed or not fetched; says the command that mends it
    ├── ModelError           a model's files are damaged or of a shape that is not supported
    ├── WorkerError          a process or machine died with its job, or is of another version
    └── BackendError         a model could not be asked (kept as a value by the guard, see gelert.backends)
"""


class GelertError(Exception):
    """Anything that stops the work for a reason its user can act upon."""


class InputError(GelertError):
    """A file, a flag or a value is not what was expected."""


class RecordError(InputError):
    """A record on disk is not readable; the message names file and line."""


class TaxonomyError(InputError):
    """A taxonomy file is wrong; the message names the file and the leaf."""


class CardError(InputError):
    """A guard card or the weights it names are wrong."""


class MissingError(GelertError):
    """Something is not installed or not fetched; the message says the command that mends it."""


class ModelError(GelertError):
    """A model's files are damaged, or its shape is not supported."""


class BackendError(GelertError):
    """A model could not be asked, or its answer could not be used."""


class WorkerError(GelertError):
    """A process or machine died with the job it was given, or has another version of the program."""


def missing_extra(feature: str, extra: str) -> MissingError:
    """The one message for an optional dependency that is not installed."""
    return MissingError(f"{feature} needs the extra {extra!r}; install it with: pip install 'gelert[{extra}]'")
