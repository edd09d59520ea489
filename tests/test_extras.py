"""Optional packages that cannot be imported: it is said which module is missing, or what its import raised."""

import sys
from pathlib import Path

import gymnasium as gym
import pytest

import thorndike as td
from thorndike.cli import main
from thorndike.commands.ui import ui
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.explain.tree import sklearn_tree
from thorndike.memory.minari import read_minari
from thorndike.planning.turns import mctx_package

USES = {  # a package: (what imports it, what pip is told)
    "gymnax": (lambda: td.make("gymnax/Any"), "thorndike[gymnax]"),
    "pgx": (lambda: td.make("pgx/any"), "thorndike[boards]"),
    "pgx_minatar": (lambda: td.make("pgx/minatar-any"), "thorndike[minatar]"),
    "brax": (lambda: td.make("brax/any"), "thorndike[brax]"),
    "mujoco_playground": (lambda: td.make("playground/Any"), "thorndike[playground]"),
    "envpool": (lambda: td.make("envpool/Any-v0"), "thorndike[envpool]"),
    "mctx": (mctx_package, "thorndike[boards]"),
    "h5py": (lambda: read_minari("any"), "thorndike[minari]"),
    "sklearn": (sklearn_tree, "thorndike[explain]"),
    "starlette": (lambda: ui(Path()), "thorndike[ui]"),
    "uvicorn": (lambda: ui(Path()), "thorndike[ui]"),
    "tensorboardX": (td.sinks.TensorBoard, "thorndike[tensorboard]"),
}


class Absent:
    """Finds no module of that name."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts a package with this code in the place of the one that is installed; None takes that away."""
    names = []

    def modules(name):
        return [module for module in sys.modules if module.partition(".")[0] == name]

    def put(name, code):
        names.append(name)
        for module in modules(name):
            monkeypatch.delitem(sys.modules, module)
        if code is None:
            monkeypatch.setattr(sys, "meta_path", [Absent(name), *sys.meta_path])
            return
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    for name in names:
        for module in modules(name):
            del sys.modules[module]


@pytest.mark.parametrize("name", USES)
def test_a_package_that_is_not_there_is_named_with_what_to_install(name, package):
    use, install = USES[name]
    package(name, None)
    with pytest.raises(td.MissingExtraError) as caught:
        use()
    assert f'the module {name!r}, which is not installed: pip install "{install}"' in str(caught.value)


@pytest.mark.parametrize("name", [*USES, "pettingzoo"])
def test_a_dependency_that_is_not_there_is_named(name, package):
    use, _ = USES.get(name, (lambda: td.make("pettingzoo/any_v0"), ""))
    package(name, "import a_dependency.of_it")
    with pytest.raises(td.MissingExtraError) as caught:
        use()
    assert "the module 'a_dependency', which is not installed: install the package that has it" in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("name", [*USES, "pettingzoo"])
@pytest.mark.parametrize("error", ["ImportError: cannot import name 'Zero'", "AttributeError: jax has no 'core'"])
def test_an_import_that_fails_shows_its_own_error(name, error, package):
    use, _ = USES.get(name, (lambda: td.make("pettingzoo/any_v0"), ""))
    kind, _, text = error.partition(": ")
    package(name, f"raise {kind}({text!r})")
    with pytest.raises(td.MissingExtraError) as caught:
        use()
    assert f"{name}, which is installed, but importing it failed with {error}" in str(caught.value)


def test_a_part_that_another_version_has(package):
    package("brax", "")
    with pytest.raises(td.MissingExtraError, match=r"needs brax\.envs, which the brax that is installed does not have"):
        td.make("brax/ant")


def test_the_command_line_says_it_in_one_line(package, capsys):
    package("gymnax", "import six_or_seven")
    assert main(["train", "ppo", "gymnax/CartPole-v1"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: gymnax/CartPole-v1 needs the module 'six_or_seven', which is not installed")


def from_mujoco(error):
    try:
        raise error
    except ImportError as cause:
        raise gym.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install it`") from cause


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ModuleNotFoundError("...", name="mujoco"),
            "needs the module 'mujoco', .*: pip install \"thorndike.mujoco.\"$",
        ),
        (ModuleNotFoundError("...", name="glfw"), "needs the module 'glfw', .*: install the package that has it$"),
        (
            ImportError("libGL.so.1: not found"),
            "installed, but .* failed with ImportError: libGL.so.1: not found$",
        ),
    ],
)
def test_what_gymnasium_says_is_not_installed_may_be_something_else(error, says):
    with pytest.raises(td.MissingExtraError, match=says):
        GymnasiumEnvironment(lambda: from_mujoco(error))


def test_a_module_of_a_similar_name_is_not_taken_for_ours():
    def make():
        raise ModuleNotFoundError("No module named 'my_pygame_levels'", name="my_pygame_levels")

    with pytest.raises(td.MissingExtraError, match="'my_pygame_levels', which is not installed: install the package"):
        GymnasiumEnvironment(make)
