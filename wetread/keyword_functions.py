"""Functions whose keywords are the fields of a dataclass, and packages that are such a function.

    wetread.train("DATA", output="run")        the package is called
    from wetread.train.config import TrainConfig    and holds modules, as any other

The commands and the functions have one name each, and so have the rooms that do the work.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

Keywords = ParamSpec("Keywords")
Group = TypeVar("Group")
Result = TypeVar("Result")


class CallablePackage(ModuleType):
    """A package that is called as the function of its own name in its module `interface`."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*arguments, **keywords)

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # by this name, `inspect` shows the function's signature
        """The function, imported when it is first used."""
        function: Callable[..., Any] = getattr(
            import_module(f"{self.__name__}.interface"), self.__name__.rpartition(".")[2]
        )
        return function


def make_callable(package: str) -> None:
    """Make an imported package callable."""
    sys.modules[package].__class__ = CallablePackage


def take_fields(
    group: Callable[Keywords, Group],
) -> Callable[[Callable[[Group], Result]], Callable[Keywords, Result]]:
    """Give a function of one dataclass the dataclass's fields as arguments, for callers and type checkers."""

    def decorate(function: Callable[[Group], Result]) -> Callable[Keywords, Result]:
        signature = inspect.signature(group).replace(
            return_annotation=inspect.signature(function).return_annotation
        )

        @wraps(function)
        def call(*arguments: Keywords.args, **keywords: Keywords.kwargs) -> Result:
            try:
                signature.bind(*arguments, **keywords)
            except TypeError as error:
                raise TypeError(f"{function.__name__}(): {error}") from None
            return function(group(*arguments, **keywords))

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
