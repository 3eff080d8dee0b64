"""The packages that wetread uses: which are installed, and what is wrong with one that does not load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from wetread.errors import BrokenPackageError, MissingExtraError, SetupError, WetreadError

ONNXRUNTIME_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
# The packages that compute on the way from a file's bytes to a probability.
RESULT_PACKAGES = (
    "imagecodecs",
    "numpy",
    *ONNXRUNTIME_PACKAGES,
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python",
    "opencv-python-headless",
    "pydicom",
    "simplejpeg",
    "wetread",
)
# The module that a package is imported by, where that is not its name with '_' for '-'.
_MODULES = {
    "google-cloud-storage": "google.cloud.storage",
    "opencv-python": "cv2",
    "opencv-python-headless": "cv2",
    "scikit-learn": "sklearn",
    **dict.fromkeys(ONNXRUNTIME_PACKAGES, "onnxruntime"),
}
_BASE = ("numpy", "opencv-python-headless", "simplejpeg", "typer")
_HERE = str(Path(__file__).parent) + os.sep
VISUAL_CPP = "the Microsoft Visual C++ Redistributable (x64, 2015-2022): vc_redist.x64.exe from Microsoft"
_PROTOBUF = "It was made for another protobuf: pip install --upgrade {package} protobuf"
_NUMPY = "It was made for another numpy: pip install --upgrade {package} numpy"
# Words in the message of a failed import, and the advice for them. The first match counts.
_ADVICE = (
    ("No module named", "Install what it needs: pip install --force-reinstall {package}"),
    ("DLL load failed", f"Install {VISUAL_CPP}"),
    ("Descriptors cannot", _PROTOBUF),
    ("protobuf", _PROTOBUF),
    ("_ARRAY_API", _NUMPY),
    ("numpy", _NUMPY),
    ("cannot open shared object file", "Install the system library that it names, or the package again"),
)
_ANY_ADVICE = "Install it again: pip install --force-reinstall {package}"


def find_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are in this environment, by name, as their folders are named.

    Not by importlib.metadata: that takes longer to import than a model takes to load.
    """
    found: dict[str, str] = {}
    for folder in filter(os.path.isdir, sys.path):
        for name in os.listdir(folder):
            if name.endswith(".dist-info"):
                package, _, version = name.removesuffix(".dist-info").partition("-")
                found.setdefault(package.replace("_", "-").lower(), version)
    return {name: found[name] for name in packages if name in found}


def find_own_version() -> str:
    """The version of wetread itself; 'unknown' where it runs without having been installed."""
    return find_versions(["wetread"]).get("wetread", "unknown")


def find_module(package: str) -> str:
    """Name the module that a package is imported by: 'sklearn' for 'scikit-learn'."""
    return _MODULES.get(package, package.replace("-", "_"))


@contextmanager
def importing(package: str, *, extra: str) -> Iterator[None]:
    """Turn the ImportError of an optional package into an error that says what to install.

    Raises MissingExtraError where it is not installed, and BrokenPackageError where it is, but does not load.
    """
    try:
        yield
    except (WetreadError, MemoryError):
        raise
    except Exception as error:
        if is_absent(error, package):
            raise MissingExtraError(package, extra=extra) from error
        raise describe_broken(package, error) from error


def is_absent(error: BaseException, package: str) -> bool:
    """Whether an import failed because the package itself, not one that it needs, is missing."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    if "None in sys.modules" in str(error):  # it was hidden on purpose
        return error.name.partition(".")[0] == find_module(package).partition(".")[0]
    return f"{find_module(package)}.".startswith(f"{error.name}.")


def describe_broken(package: str, error: BaseException) -> BrokenPackageError:
    """Make the error of a package that is installed and does not load: its reason, and what helps."""
    reason = " ".join(str(error).split()).rstrip(".")
    advice = next((advice for words, advice in _ADVICE if words in reason), _ANY_ADVICE)
    words = f"{type(error).__name__}: {reason[:500]}" if reason else type(error).__name__
    return BrokenPackageError(package, reason=words, advice=advice.format(package=package))


def explain_import(error: BaseException) -> SetupError | None:
    """Explain an exception that an import inside wetread raised; None if something else raised it.

    Required packages are imported without `importing`, so their failures are explained here.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        for package in _BASE:
            if is_absent(error, package):
                return SetupError(f"The package '{package}' is not installed: pip install {package}.")
    module = _find_importing(error.__traceback__)
    if module is None:
        return None
    names = {find_module(package).partition(".")[0]: package for package in (*_MODULES, *_BASE)}
    return describe_broken(names.get(module, module), error)


def _find_importing(traceback: TracebackType | None) -> str | None:
    """The third-party package that raised while wetread imported it, or a package that imports it."""
    found, importing_it, ours = None, False, False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(_HERE):
            found, importing_it, ours = None, False, True
        elif not code.co_filename.startswith("<frozen"):
            importing_it = code.co_name == "<module>" if ours else importing_it
            module = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
            if importing_it and code.co_name == "<module>" and module not in sys.stdlib_module_names:
                found = module
            ours = False
        traceback = traceback.tb_next
    return found
