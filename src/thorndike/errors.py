"""Errors that users meet. Each message says what is wrong and what to do; none needs a traceback to be understood."""


class ThorndikeError(Exception):
    """Base of every error that Thorndike raises on purpose."""


class ConfigError(ThorndikeError, ValueError):
    """A hyperparameter or an argument that cannot work."""


class UnknownNameError(ThorndikeError, KeyError):
    """A name of an algorithm, environment or metric that does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])


class IncompatibleError(ThorndikeError, TypeError):
    """An algorithm that cannot serve an environment; says why, and which can."""


class MissingExtraError(ThorndikeError, ImportError):
    """An optional dependency that is not installed or cannot be imported; says which, and what to install."""


class EnvError(ThorndikeError, RuntimeError):
    """An environment that raised, hung, died or broke its contract; names which one and, on the host, when."""


class CheckpointError(ThorndikeError, ValueError):
    """A checkpoint or model file that is damaged, missing or not one of ours."""


class DivergedError(ThorndikeError, ArithmeticError):
    """Training produced a value that is not finite; says which metric went first and the usual causes."""


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
