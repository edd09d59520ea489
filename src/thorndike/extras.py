"""Optional packages: importing them, and what is said where that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from thorndike.errors import MissingExtraError

INSTALL = {  # a module, in lower case: what pip is told to install for it
    "pgx": '"thorndike[boards]"',
    "mctx": '"thorndike[boards]"',
    "pgx_minatar": '"thorndike[minatar]"',
    "gymnax": '"thorndike[gymnax]"',
    "brax": '"thorndike[brax]"',
    "mujoco_playground": '"thorndike[playground]"',
    "envpool": '"thorndike[envpool]"',
    "pettingzoo": '"thorndike[pettingzoo]"',
    "mpe2": '"thorndike[pettingzoo]"',
    "h5py": '"thorndike[minari]"',
    "tensorboardx": '"thorndike[tensorboard]"',
    "wandb": '"thorndike[wandb]"',
    "mlflow": '"thorndike[mlflow]"',
    "onnx": '"thorndike[export]"',
    "onnxruntime": '"thorndike[export]"',
    "starlette": '"thorndike[ui]"',
    "uvicorn": '"thorndike[ui]"',
    "sklearn": '"thorndike[explain]"',
    "optuna": '"thorndike[tune]"',
    "box2d": '"thorndike[box2d]"',
    "mujoco": '"thorndike[mujoco]"',
    "pygame": '"gymnasium[classic-control]"',
    "cv2": '"gymnasium[other]"',
    "ale_py": "ale-py",
    "minigrid": "minigrid",
}


@contextlib.contextmanager
def importing(package: str, what: str) -> Iterator[None]:
    """Around the `import` of an optional package that `what` needs; raises `MissingExtraError` where it fails."""
    try:
        yield
    except Exception as error:  # a package made for other versions of what it imports may raise anything
        raise missing(what, error, package) from error


def missing(what: str, error: BaseException, package: str = "a package") -> MissingExtraError:
    """The error to raise where `what` needs a package that is not installed, or whose own import failed.

    `error` is what Python raised, or what was raised from that, as Gymnasium's `DependencyNotInstalled` is.
    """
    from gymnasium.error import DependencyNotInstalled  # here, as listing runs needs no Gymnasium

    if isinstance(error.__cause__, ImportError):
        error = error.__cause__
    if isinstance(error, DependencyNotInstalled):
        known = [install for module, install in INSTALL.items() if module in str(error).lower()]
        return MissingExtraError(f"{what}: {error}" + (f" (pip install {known[0]})" if known else ""))
    if not isinstance(error, ModuleNotFoundError):
        failed = f"{type(error).__name__}: {error}"
        return MissingExtraError(f"{what} needs {package}, which is installed, but importing it failed with {failed}")
    if error.name is None:
        return MissingExtraError(f"{what} needs a package that is not installed: {error}")
    module, dot, _ = error.name.partition(".")
    if dot:
        return MissingExtraError(f"{what} needs {error.name}, which the {module} that is installed does not have")
    install = INSTALL.get(module.lower())
    how = f"pip install {install}" if install else "install the package that has it"
    return MissingExtraError(f"{what} needs the module {module!r}, which is not installed: {how}")
