"""Every error that Tamis raises on purpose.

    TamisError                what was wrong, where, what is allowed, what to do: one sentence
      RequestError            the request was wrong (exit code 2)
        RecipeError           a recipe: every mistake of the file at once, each with its line
        TemplateError         a template file, or a template that a row does not fit
        MethodError           an unknown method, an option that it does not take
        MissingExtra          a package that an extra brings is not installed
        WorkError             the work folder is held by another run, or is not one of ours
      DataError               the data says no (exit code 1)
        SourceError           a source that cannot be read, or too much of it cannot
        RowSkipped            a row that a template set does not take: its sentence is the reason in `removed`
        ContractError         a table without a column or a view that a step needs
        TrainingError         a loss that is not finite, a model that cannot be loaded safely
      MachineError            the machine says no: a full disk, a permission, a folder that vanished (exit code 1)

The command prints the sentence without a traceback (``--debug`` shows it) and exits with ``exit_code``.
"""

from __future__ import annotations


class TamisError(Exception):
    """Base of all: ``except TamisError as error: print(error)``."""

    exit_code = 1


class RequestError(TamisError):
    """The request was wrong; nothing was run."""

    exit_code = 2


class RecipeError(RequestError):
    """A recipe cannot be run. Holds every problem found, not only the first."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self):
        return type(self), (self.problems,)


class TemplateError(RequestError):
    """A template file is wrong, or reads a role that the row does not have."""


class MethodError(RequestError):
    """A method or an option that does not exist."""


class MissingExtra(RequestError):
    """An optional package is not installed."""


class WorkError(RequestError):
    """The work folder cannot be used."""


class DataError(TamisError):
    """The data says no."""


class SourceError(DataError):
    """A source cannot be read."""


class RowSkipped(DataError):
    """One row that a template set does not take. Caught row by row; the sentence becomes the reason in ``removed``."""


class ContractError(DataError):
    """A table lacks what a step needs."""


class TrainingError(DataError):
    """A training run stopped."""


class DivergedError(TrainingError):
    """A loss or a gradient was not finite."""


class MachineError(TamisError):
    """The machine says no. What an OSError becomes (curate/contract/faults.py), whoever raised it."""
